"""Degrees of polynomials as an arithmetic, for the bound of an exact comparison."""

from __future__ import annotations

import numpy as np

from cliquegraph.semantics.arithmetic import Array, Number


class Degrees:
    """Each element is the degree of a polynomial in random numbers and results of opaque functions.

    A sum has the larger degree, a product the sum of both. So an evaluator in this arithmetic
    computes upper bounds of the degrees of the polynomials that it evaluates in a prime field.

    Attributes:
        largest: the largest degree of an argument of an opaque function.
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

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power."""
        return self.divide_by_root(a, b)

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes."""
        return np.asarray(a.max(axis=axes))

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product; an upper bound of the degrees of its elements."""
        return np.asarray(a.max(axis=-1, keepdims=True) + b.max(axis=-2, keepdims=True))

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        return self._opaque(a)

    sigmoid = relu

    def maximum(self, windows: Array, present: Array) -> Array:
        """The maximum of each window."""
        return self._opaque(windows.max(axis=(-2, -1)))

    def mask(self, site: int, *shape: int) -> Array:
        """The mask of dropout."""
        return np.ones(shape, np.int64)

    def _opaque(self, a: Array) -> Array:
        """The result of an opaque function is an independent random number, of degree 1."""
        self.largest = max(self.largest, int(a.max()))
        return np.ones_like(a)
