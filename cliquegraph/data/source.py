"""The output of readers: 8-bit images by row, with labels, before preprocessing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.pictures import crop_pixels
from cliquegraph.diagnostics.errors import DataError, UsageError

Rows = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]


class MissingFilesError(UsageError):
    """A data set that is missing or incomplete."""


class Source(ABC):
    """The images of one part of a data set.

    Attributes:
        labels: (N,), int64.
        shape: (C, H, W) of each image that ``pixels`` returns.
    """

    labels: NDArray[np.int64]
    shape: Shape

    @abstractmethod
    def pixels(self, rows: Rows) -> Pixels:
        """Return images for evaluation, (n, C, H, W)."""

    def crops(self, rows: Rows, draws: NDArray[np.float64]) -> Pixels:
        """Return a random crop of each image, resized to full size, (n, C, H, W).

        Args:
            rows: (n,), indices of images.
            draws: (n, tries, 4), uniform in [0, 1): area, ratio, top and left of each try.
        """
        return crop_pixels(self.pixels(rows), draws)


class Arrays(Source):
    """Images in arrays, in memory or memory-mapped."""

    def __init__(self, arrays: Sequence[Pixels], labels: NDArray[np.integer]) -> None:
        self.arrays = tuple(arrays)
        self.labels = np.asarray(labels, np.int64)
        _, channels, height, width = arrays[0].shape
        self.shape = (channels, height, width)
        self._starts = np.cumsum([0, *map(len, arrays)])

    def pixels(self, rows: Rows) -> Pixels:
        """Return images from the arrays that hold them."""
        if len(self.arrays) == 1:
            return np.asarray(self.arrays[0][rows])
        images = np.empty((len(rows), *self.shape), np.uint8)
        holder = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(holder):
            here = holder == index
            images[here] = self.arrays[index][rows[here] - self._starts[index]]
        return images


@dataclass(frozen=True)
class Contents:
    """The parts of a data set, as read.

    Attributes:
        train: training images, from which a validation part can be split.
        test: None if there are no labeled test images.
        classes: class names, by label.
        validation: the data set's own validation part, if it has one.
    """

    train: Source
    test: Source | None
    classes: tuple[str, ...]
    validation: Source | None = None


def check_labels(
    path: Path, labels: NDArray[np.integer], classes: int, first: int = 0, stride: int = 1
) -> None:
    """Reject labels that are out of range.

    Args:
        path: their file.
        labels: (N,).
        classes: number of classes.
        first, stride: the offset of the first label in the file, and the distance between labels.

    Raises:
        DataError: a label is invalid; names the offset of the first one.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{path}: the label at byte {first + stride * wrong[0]} is {labels[wrong[0]]}, "
            f"but there are {classes} classes"
        )
