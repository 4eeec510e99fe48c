"""What a reader gives: 8-bit images by row, with labels, before any treatment."""

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
    """A data set that is not where it is looked for, or only in part."""


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
        """Return images as they are for testing, (n, C, H, W)."""

    def crops(self, rows: Rows, draws: NDArray[np.float64]) -> Pixels:
        """Return a random part of each image in full size, (n, C, H, W).

        Args:
            rows: (n,), which images.
            draws: (n, tries, 4), uniform in [0, 1): area, ratio, top and left of each try.
        """
        return crop_pixels(self.pixels(rows), draws)


class Arrays(Source):
    """Images in arrays, in memory or mapped from files."""

    def __init__(self, arrays: Sequence[Pixels], labels: NDArray[np.integer]) -> None:
        self.arrays = tuple(arrays)
        self.labels = np.asarray(labels, np.int64)
        _, channels, height, width = arrays[0].shape
        self.shape = (channels, height, width)
        self._starts = np.cumsum([0, *map(len, arrays)])

    def pixels(self, rows: Rows) -> Pixels:
        """Return images from whichever arrays hold them."""
        if len(self.arrays) == 1:
            return np.asarray(self.arrays[0][rows])
        found = np.empty((len(rows), *self.shape), np.uint8)
        holder = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(holder):
            here = holder == index
            found[here] = self.arrays[index][rows[here] - self._starts[index]]
        return found


@dataclass(frozen=True)
class Contents:
    """The parts of a data set, as its reader found them.

    Attributes:
        train: what to train on, and to split a validation part from.
        test: None where there are no labelled images for it.
        classes: names, by label.
        validation: None but where the data has a part of its own for it.
    """

    train: Source
    test: Source | None
    classes: tuple[str, ...]
    validation: Source | None = None


def check_labels(
    path: Path, labels: NDArray[np.integer], classes: int, first: int = 0, stride: int = 1
) -> None:
    """Refuse labels that name no class.

    Args:
        path: the file that they are from.
        labels: (N,).
        classes: how many there are.
        first, stride: the offset of the first label in the file, and from one to the next.

    Raises:
        DataError: with the offset of the first wrong one.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{path}: the label at byte {first + stride * wrong[0]} is {labels[wrong[0]]}, "
            f"there are {classes} classes"
        )
