"""Degrees of polynomials as an arithmetic: what the bound of an exact comparison rests on."""

from __future__ import annotations

import numpy as np

from cliquegraph.semantics.arithmetic import Array, Number


class Degrees:
    """Each number is the degree of a polynomial in random numbers and in opaque answers.

    A sum has the larger degree, a product the sum of both; so an evaluator that runs in it tells
    of which degree the polynomials are that it computes in a prime field, at most.

    Attributes:
        largest: of all arguments of opaque functions.
    """

    lead = 0
    queries = 0

    def __init__(self) -> None:
        self.largest = 0

    def draw(self, *shape: int) -> Array:
        """Return the degree of random numbers."""
        return np.ones(shape, np.int64)

    def array(self, values: Array) -> Array:
        """Return degrees, as a copy."""
        return np.array(values, np.int64)

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""
        return np.maximum(a, b)

    subtract = add

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b."""
        return np.asarray(a + b)

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""
        return a

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""
        return a

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""
        return a

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b."""
        return np.asarray(a + self._opaque(b))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes."""
        return np.asarray(a.max(axis=axes))

    def matmul(self, a: Array, b: Array) -> Array:
        """The product of matrices; no less than the degree of any of its sums."""
        return np.asarray(a.max(axis=-1, keepdims=True) + b.max(axis=-2, keepdims=True))

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        return self._opaque(a)

    sigmoid = relu

    def maximum(self, windows: Array, present: Array) -> Array:
        """The largest of each window."""
        return self._opaque(windows.max(axis=(-2, -1)))

    def mask(self, site: int, *shape: int) -> Array:
        """What dropout multiplies by."""
        return np.ones(shape, np.int64)

    def _opaque(self, a: Array) -> Array:
        """An answer is a random number of its own."""
        self.largest = max(self.largest, int(a.max()))
        return np.ones_like(a)
