"""Exact arithmetic in which ReLU is homogeneous: ReLU(z) = ReLU'(z) × z, as of the true one.

A file that derives the gradient of a scale from that of a kernel uses this identity, which a table
of arbitrary results does not know. So the opaque function is ReLU's derivative here, of the
argument; the result is that times the argument, from which the derivative is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import Opaque, PrimeField, fingerprints


class HomogeneousField(PrimeField):
    """A prime field in which ReLU(z) = ReLU'(z) × z. Numbers that have a name are not 0."""

    _least = 1

    def __init__(self, seed: int = 0, lanes: int = 6) -> None:
        super().__init__(seed, lanes)
        self._known: list[_Known] = []

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        slopes = self._opaque(a, Opaque.RELU)
        results = self.multiply(a, slopes)
        self._remember(*(each.reshape(len(each), -1) for each in (results, slopes)))
        return results

    def step(self, a: Array) -> Array:
        """The derivative of ReLU where its result is ``a``; of no result, an arbitrary number."""
        flat = a.reshape(len(a), -1)
        slopes, found = self._look_up(flat, fingerprints(flat))
        if not found.all():
            slopes[:, ~found] = self._opaque(flat[:, ~found], Opaque.STEP)
        return slopes.reshape(a.shape)

    def _look_up(self, results: Array, prints: Array) -> tuple[Array, Array]:
        """The derivatives of results, and which of them are known.

        Raises:
            VerificationError: two of them have one fingerprint, so that the derivative is unknown.
        """
        slopes, found = np.zeros_like(results), np.zeros(len(prints), bool)
        for known in self._known:
            at, here = known.find(prints)
            if not (known.results[:, at[here]] == results[:, here]).all():
                raise VerificationError("two numbers have one fingerprint: give another --seed")
            slopes[:, here] = known.slopes[:, at[here]]
            found |= here
        return slopes, found

    def _remember(self, results: Array, slopes: Array) -> None:
        prints = fingerprints(results)
        _, found = self._look_up(results, prints)
        unseen = np.flatnonzero(~found)
        if not len(unseen):
            return
        each, first = np.unique(prints[unseen], return_index=True)
        first = unseen[first]
        parts = (array[:, first].astype(np.int32) for array in (results, slopes))
        self._known.append(_Known(each, *parts))
        # A few sorted tables of growing sizes: each number is sorted again a few times alone.
        while len(self._known) > 1 and len(self._known[-2].prints) <= 2 * len(each):
            above, below = self._known.pop(), self._known.pop()
            merged = np.concatenate((below.prints, above.prints))
            order = np.argsort(merged)
            each = merged[order]
            pairs = ((below.results, above.results), (below.slopes, above.slopes))
            self._known.append(
                _Known(each, *(np.concatenate(pair, axis=1)[:, order] for pair in pairs))
            )


@dataclass(frozen=True)
class _Known:
    """Results of ReLU by their fingerprints, in ascending order, and its derivative there."""

    prints: Array
    results: Array
    slopes: Array

    @cached_property
    def _starts(self) -> Array:
        """Where the fingerprints of each bucket begin: those of the same leading bits."""
        sizes = np.bincount(self._buckets(self.prints))
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))

    def _buckets(self, prints: Array) -> Array:
        bits = max(1, (len(self.prints) - 1).bit_length())
        return (prints >> np.uint64(64 - bits)).astype(np.int64)

    def find(self, prints: Array) -> tuple[Array, Array]:
        """Where each fingerprint is, and whether it is there at all.

        Fingerprints are evenly distributed, so a bucket has few; a binary search in a table of
        millions would miss the cache about twenty times.
        """
        last = len(self.prints) - 1
        buckets = np.minimum(self._buckets(prints), len(self._starts) - 1)
        at = np.minimum(self._starts[buckets], last)
        left = np.flatnonzero(self.prints[at] < prints)
        while len(left):
            at[left] += 1
            left = left[at[left] <= last]
            left = left[self.prints[at[left]] < prints[left]]
        np.minimum(at, last, out=at)
        return at, self.prints[at] == prints


class HomogeneousDegrees(Degrees):
    """Degrees where ReLU's result has that of its argument, plus 1.

    A random number may be divided by: its inverse counts as another one, of degree 1. A result is
    then a polynomial in random numbers and inverses of some of them, a Laurent polynomial. One of
    degree d, in which exponents count by their absolute values, is 0 at random numbers other than 0
    with a probability of at most 2d / (p - 1): let x be one of its variables, whose exponents go
    from a to b. Where the coefficient of the one that is larger by its absolute value, j, is not 0,
    there are at most b - a ≤ 2|j| zeros, and that coefficient has a degree of at most d - |j| in
    the other variables. So degrees count twice as soon as something is divided.
    """

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        return self.multiply(a, self._opaque(a))

    def inverse(self, a: Array) -> Array:
        """1 / a, also of a random number."""
        is_number = (a[0] == 1) & (a[1] == 0)
        if not is_number.any():
            return super().inverse(a)
        self.factor = 2
        rest = super().inverse(np.where(is_number, 0, a))
        return np.where(is_number, a, rest)
