"""Dual numbers over exact arithmetic: a value and its derivative in one direction.

An evaluator of the declaration in this arithmetic computes a network and the derivative of all its
results in a random direction of the parameters, without a backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from cliquegraph.semantics.arithmetic import Array, Number, rational
from cliquegraph.semantics.field import Exact


class Dual:
    """a + a′ε with ε² = 0, both on a leading axis before those of the numbers' arithmetic.

    Args:
        base: the arithmetic of values and derivatives.
    """

    def __init__(self, base: Exact) -> None:
        self._base = base
        self.lead = base.lead + 1

    def array(self, values: Array) -> Array:
        """Return dual numbers, as a copy."""
        return np.array(values, np.int64)

    def constant(self, values: Array) -> Array:
        """Return numbers whose derivative is 0."""
        return np.stack((values, np.zeros_like(values)))

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""
        return self._each(self._base.add, a, b)

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b."""
        return self._each(self._base.subtract, a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b: (ab)′ = ab′ + a′b."""
        times = self._base.multiply
        return np.stack((times(a[0], b[0]), self._base.add(times(a[0], b[1]), times(a[1], b[0]))))

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""
        return np.stack((self._base.offset(a[0], number), a[1]))

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""
        return np.stack([self._base.scale(each, number) for each in a])

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""
        return np.stack([self._base.divide(each, count) for each in a])

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b: (b^(-1/2))′ = -b^(-3/2) b′ / 2."""
        times = self._base.multiply
        inverse = self._base.divide_by_root(np.ones_like(b[0]), b[0])
        slope = times(times(inverse, times(inverse, inverse)), b[1])
        return self.multiply(a, np.stack((inverse, self._base.scale(slope, Fraction(-1, 2)))))

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power: (b^-c)′ = -c b^-2c b^(c-1) b′."""
        times, exact = self._base.multiply, rational(exponent)
        inverse = self._base.inverse(self._base.power(b[0], exact))
        slope = times(times(inverse, inverse), times(self._base.power(b[0], exact - 1), b[1]))
        return self.multiply(a, np.stack((inverse, self._base.scale(slope, -exact))))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes."""
        return np.stack([self._base.total(each, axes) for each in a])

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product: (AB)′ = AB′ + A′B."""
        times = self._base.matmul
        return np.stack((times(a[0], b[0]), self._base.add(times(a[0], b[1]), times(a[1], b[0]))))

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        value = self._base.relu(a[0])
        return np.stack((value, self._base.multiply(self._base.step(value), a[1])))

    def sigmoid(self, a: Array) -> Array:
        """σ(a): σ′ = σ(1 - σ)."""
        value, times = self._base.sigmoid(a[0]), self._base.multiply
        slope = self._base.subtract(value, times(value, value))
        return np.stack((value, times(slope, a[1])))

    def maximum(self, windows: Array, present: Array) -> Array:
        """The maximum of each window."""
        shares = self._base.shares(windows[0], present)
        change = self._base.total(self._base.multiply(shares, windows[1]), (-2, -1))
        return np.stack((self._base.maximum(windows[0], present), change))

    def mask(self, site: int, *shape: int) -> Array:
        """Return the random choices at a site, which depend on no parameter."""
        return self.constant(self._base.mask(site, *shape))

    def _each(self, operation: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
        return np.stack([operation(x, y) for x, y in zip(a, b, strict=True)])
