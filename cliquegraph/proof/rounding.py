"""How far rounding alone may move a network's results, measured by rounding at random."""

from __future__ import annotations

import numpy as np

from cliquegraph.semantics.arithmetic import Array, Float64, Number


class RandomRounding(Float64):
    """float64 in which every result is moved to a neighbor, up or down at random.

    Two implementations of one function round its intermediate results differently, which changes
    of the inputs don't show: the deviations of an almost constant map from its mean are rounding
    errors of that mean, whatever the map is. Results of this arithmetic differ from those of
    float64 by as much as such implementations differ (Vignes' stochastic arithmetic, 1993).
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def _round(self, a: Array) -> Array:
        up = self._random.random(a.shape) < 0.5
        return np.nextafter(a, np.where(up, np.inf, -np.inf))

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""
        return self._round(super().add(a, b))

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b."""
        return self._round(super().subtract(a, b))

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b."""
        return self._round(super().multiply(a, b))

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""
        return self._round(super().offset(a, number))

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""
        return self._round(super().scale(a, number))

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""
        return self._round(super().divide(a, count))

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b."""
        return self._round(super().divide_by_root(a, b))

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power."""
        return self._round(super().divide_by_power(a, b, exponent))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes."""
        return self._round(super().total(a, axes))

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product."""
        return self._round(super().matmul(a, b))

    def sigmoid(self, a: Array) -> Array:
        """1 / (1 + exp(-a))."""
        return self._round(super().sigmoid(a))
