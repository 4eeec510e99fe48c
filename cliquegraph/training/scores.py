"""Accuracy and loss: running totals of training, and scores of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data import PADDING
from cliquegraph.ir.storage import Array, Labels

TOP = 5


@dataclass(frozen=True)
class Totals:
    """Sums over images.

    Attributes:
        loss: sum of cross entropies.
        hits: number of images whose class had the highest logit.
        images: number of images.
    """

    loss: float = 0.0
    hits: int = 0
    images: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.loss + other.loss, self.hits + other.hits, self.images + other.images)

    @property
    def mean_loss(self) -> float:
        """Mean cross entropy per image; NaN for no images."""
        return self.loss / self.images if self.images else float("nan")

    @property
    def accuracy(self) -> float:
        """Fraction of images whose class had the highest logit; NaN for no images."""
        return self.hits / self.images if self.images else float("nan")


class Scores:
    """Scores of an evaluation, computed from logits: loss, top-1, top-5, confusion matrix."""

    def __init__(self, classes: int) -> None:
        self._loss = 0.0
        self._hits = 0
        self._top = 0
        self.confusion: NDArray[np.int64] = np.zeros((classes, classes), np.int64)
        """(classes, classes): number of images of the row's class classified as the column's"""

    def add(self, logits: Array, labels: Labels) -> None:
        """Add a batch: (batch, classes), (batch,); images labeled ``PADDING`` are not counted."""
        counted = labels != PADDING
        rows, truth = np.asarray(logits, np.float64)[counted], labels[counted]
        if not len(truth):
            return
        own = np.take_along_axis(rows, truth[:, None], axis=1)
        highest = rows.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # infinite logits show in the loss
            sums = np.exp(rows - highest).sum(axis=1, keepdims=True)
            self._loss += float((highest + np.log(sums) - own).sum())
        # NaN compares false with everything; it must not count as a hit.
        above = np.logical_not(rows < own).sum(axis=1) - 1
        self._top += int((above < TOP).sum())
        predicted = rows.argmax(axis=1)
        self._hits += int((np.isfinite(own[:, 0]) & (predicted == truth)).sum())
        np.add.at(self.confusion, (truth, predicted), 1)

    @property
    def totals(self) -> Totals:
        """Loss and hits."""
        return Totals(self._loss, self._hits, int(self.confusion.sum()))

    @property
    def top5(self) -> float:
        """Fraction of images whose class was among the five highest logits; NaN for no images."""
        images = self.totals.images
        return self._top / images if images else float("nan")

    def packed(self) -> NDArray[np.float64]:
        """Return all scores as one vector; vectors of several processes can be added."""
        return np.array([self._loss, self._hits, self._top, *self.confusion.flat], np.float64)

    def unpack(self, vector: NDArray[np.float64]) -> None:
        """Set the scores from a vector of ``packed``, or a sum of such vectors."""
        self._loss, self._hits, self._top = float(vector[0]), int(vector[1]), int(vector[2])
        self.confusion = vector[3:].astype(np.int64).reshape(self.confusion.shape)
