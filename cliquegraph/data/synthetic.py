"""Synthetic images for experiments: a pattern for each class, plus noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.source import Contents, Pixels, Rows, Shape, Source
from cliquegraph.data.split import Purpose, generator

TRAINING_IMAGES = 4096

_GRID = 4  # a pattern has at most 4×4 fields of one color
_CONTRAST = 40
_NOISE = 64
_OFFSETS = 1 << 16


def make_synthetic(shape: Shape, classes: int, count: int = TRAINING_IMAGES) -> Contents:
    """Return ``count`` training images and a quarter as many test images, of any shape.

    They are generated on demand, so that large ones take no memory.
    """
    recipe = _Recipe(shape, classes)
    names = tuple(f"class {label}" for label in range(classes))
    train = Synthetic(recipe, 0, count)
    return Contents(train, Synthetic(recipe, count, max(1, count // 4)), names)


class _Recipe:
    """The content of the images of both parts: a pattern for each class, a strip of noise."""

    def __init__(self, shape: Shape, classes: int) -> None:
        self.shape = shape
        self.classes = classes
        channels, height, width = shape
        random = generator(Purpose.SYNTHETIC, 0)
        rows, columns = min(_GRID, height), min(_GRID, width)
        size = (classes, channels, rows, columns)
        grids = random.integers(128 - _CONTRAST, 128 + _CONTRAST, size, np.int16, endpoint=True)
        down, right = np.arange(height) * rows // height, np.arange(width) * columns // width
        self._fields = (slice(None), slice(None), down[:, None], right)
        self._grids = grids
        length = channels * height * width + _OFFSETS
        self._noise = random.integers(-_NOISE, _NOISE, length, np.int16, endpoint=True)

    def image_labels(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the labels of images ``first`` to ``first + count - 1``."""
        return np.arange(first, first + count) % self.classes

    def images(self, indices: NDArray[np.int64]) -> Pixels:
        """Return images by index, (n, C, H, W)."""
        patterns = self._grids[indices % self.classes][self._fields]
        # Each image starts at another offset of the strip, by Knuth's multiplicative hash.
        offsets = (indices * 2654435761) % _OFFSETS
        windows = np.lib.stride_tricks.sliding_window_view(self._noise, patterns[0].size)
        patterns += windows[offsets].reshape(patterns.shape)
        return patterns.astype(np.uint8)  # 128 ± 40 ± 64 needs no clipping


class Synthetic(Source):
    """A range of the images of a recipe."""

    def __init__(self, recipe: _Recipe, first: int, count: int) -> None:
        self._recipe = recipe
        self._first = first
        self.shape = recipe.shape
        self.labels = recipe.image_labels(first, count)

    def pixels(self, rows: Rows) -> Pixels:
        """Generate images."""
        return self._recipe.images(self._first + rows)
