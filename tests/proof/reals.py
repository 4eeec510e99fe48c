"""The functions that exact arithmetic takes as opaque, on real numbers, to test rules."""

from __future__ import annotations

import numpy as np

from cliquegraph.semantics.arithmetic import Array, Float64, Number


class Real(Float64):
    """Real numbers in float64, with everything that programs of a framework compute."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._masks: dict[int, Array] = {}

    def draw(self, *shape: int) -> Array:
        """Random numbers."""
        return self._random.uniform(0.5, 1.5, shape)

    def constant(self, values: Array, /) -> Array:
        """The numbers as they are."""
        return np.array(values, np.float64)

    def mask(self, site: int, *shape: int) -> Array:
        """Random choices, the same in every call."""
        if site not in self._masks:
            self._masks[site] = self.draw(*shape)
        return self._masks[site]

    def inverse(self, a: Array) -> Array:
        """1 / a."""
        return np.asarray(1.0 / a)

    def root(self, a: Array) -> Array:
        """√a."""
        return np.asarray(np.sqrt(a))

    def power(self, a: Array, exponent: Number) -> Array:
        """A to a constant power."""
        return np.asarray(a ** float(exponent))

    def step(self, a: Array) -> Array:
        """1 where a result of ReLU is positive, else 0."""
        return np.asarray((a > 0).astype(np.float64))

    def shares(self, windows: Array, present: Array) -> Array:
        """1 for the first of each window's largest elements, else 0."""
        flat = np.where(present, windows, -np.inf).reshape(*windows.shape[:-2], -1)
        first = np.zeros(flat.shape)
        np.put_along_axis(first, flat.argmax(-1)[..., None], 1.0, -1)
        return first.reshape(windows.shape)
