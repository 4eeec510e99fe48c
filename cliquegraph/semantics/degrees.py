"""Degrees and coefficients of polynomials, as an arithmetic: for the bound of a comparison."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import ceil, floor, lcm, log2

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Array, Number, rational

_UNBOUNDED = (
    "divides by something other than constants, roots and powers: the degree of that is unknown"
)


class Degrees:
    """Each element is a polynomial's degree, and the bits of its coefficients.

    Polynomials are in random numbers and results of opaque functions. A sum has the larger degree,
    a product the sum of both; so an evaluator in this arithmetic computes upper bounds for the
    polynomials that it evaluates in a prime field. Coefficients are fractions whose denominators
    are products of those of ``constants``; the bits are those of their numerators, when all are
    brought to one denominator. A negative degree is that of a product of inverses, 1/√x.

    Args:
        constants: the constants that are met, in any order.

    Attributes:
        largest: the largest degree, and bits, of an argument of an opaque function.
        factor: by which degrees count.
    """

    factor = 1
    lead = 1
    queries = 0

    def __init__(self, constants: Iterable[Fraction] = ()) -> None:
        met = [Fraction(1), *constants]
        common = lcm(*(each.denominator for each in met))
        # A constant's numerator over the common denominator; and that again, for terms which
        # have fewer constants than others of their sum.
        self._bits = max(ceil(log2(abs(each.numerator) * common**2 + 1)) for each in met)
        self.largest = np.zeros(2, np.int64)

    def draw(self, *shape: int) -> Array:
        """Return the degree of random numbers."""
        return self._polynomials(1, shape)

    def drawn(self, name: str, *shape: int) -> Array:
        """Return the degree of random numbers that have a name."""
        return self.draw(*shape)

    def array(self, values: Array) -> Array:
        """Return degrees, as a copy."""
        return np.array(values, np.int64)

    def constant(self, values: Array, /) -> Array:
        """Return constants."""
        return np.stack(
            (np.zeros(np.shape(values), np.int64), np.full(np.shape(values), self._bits))
        )

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""
        self._require_polynomial(a)
        self._require_polynomial(b)
        return self._grown(np.maximum(a, b), 1)

    subtract = add

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b."""
        return np.asarray(a + b)

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""
        return self.add(a, self._polynomials(0, (1,) * (a.ndim - 1), self._bits))

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""
        return self._grown(a, self._bits)

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""
        return self._grown(a, self._bits)

    def inverse(self, a: Array) -> Array:
        """1 / a, of a constant or of a product of inverses of results of opaque functions."""
        if (a[0] > 0).any():
            raise VerificationError(_UNBOUNDED)
        return np.stack((-a[0], a[1]))

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b."""
        return self.multiply(a, self._opaque(b))

    def root(self, a: Array) -> Array:
        """√a, the inverse of the result of an opaque function."""
        return np.asarray(-self._opaque(a))

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power."""
        return self.multiply(a, self.inverse(self.power(b, exponent)))

    def power(self, a: Array, exponent: Number) -> Array:
        """A to a constant power: the inverse of the result of an opaque function, if fractional."""
        exact = rational(exponent)
        if exact.denominator == 2:
            return np.asarray(self._opaque(a) * -exact.numerator)
        whole, part = floor(exact), exact - floor(exact)
        degree = a * whole if whole >= 0 else self._opaque(a) * -whole
        return np.asarray(degree - self._opaque(a) if part else degree)

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes."""
        self._require_polynomial(a)
        count = int(np.prod([a.shape[axis] for axis in axes]))
        return self._grown(a.max(axis=axes, initial=0), _bits_of(count))

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product; an upper bound of the degrees of its elements."""
        largest = a.max(axis=-1, keepdims=True) + b.max(axis=-2, keepdims=True)
        return self._grown(largest, _bits_of(a.shape[-1]))

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        return self._opaque(a)

    sigmoid = step = relu

    def maximum(self, windows: Array, present: Array) -> Array:
        """The maximum of each window."""
        return self._opaque(windows.max(axis=(-2, -1)))

    def shares(self, windows: Array, present: Array) -> Array:
        """The derivative of each window's maximum with respect to each element."""
        return self._opaque(windows)

    def mask(self, site: int, *shape: int) -> Array:
        """The mask of dropout."""
        return self.draw(*shape)

    def _opaque(self, a: Array) -> Array:
        """The result of an opaque function is an independent random number, of degree 1."""
        self._require_polynomial(a)
        each = a.reshape(2, -1).max(axis=1, initial=0)
        self.largest = np.maximum(self.largest, each)
        return self._polynomials(1, a.shape[1:])

    def _polynomials(self, degree: int, shape: tuple[int, ...], bits: int = 0) -> Array:
        return np.stack((np.full(shape, degree, np.int64), np.full(shape, bits, np.int64)))

    def _grown(self, a: Array, bits: int) -> Array:
        return np.stack((a[0], a[1] + bits))

    def _require_polynomial(self, a: Array) -> None:
        if (a[0] < 0).any():
            raise VerificationError(_UNBOUNDED)


def _bits_of(count: int) -> int:
    return ceil(log2(count)) if count > 1 else 0
