"""Batches of a data set: a pure function of seed, epoch and step, for any number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.batches import PADDING, Batch, Batches, Statistics, Treatment
from cliquegraph.data.pictures import TRIES
from cliquegraph.data.source import Rows, Source
from cliquegraph.data.split import Purpose, generator
from cliquegraph.data.treatment import PAD, Shift, flip, normalize, pad_crop_flip
from cliquegraph.diagnostics.errors import UsageError


@dataclass(frozen=True)
class Part:
    """Some rows of a source."""

    source: Source
    rows: Rows


@dataclass(frozen=True)
class ImageDataset:
    """A data set that is open and split, with its preprocessing."""

    name: str
    classes: tuple[str, ...]
    treatment: Treatment
    statistics: Statistics
    contents: Mapping[str, Part]

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of train, validation and test that exist."""
        return tuple(self.contents)

    def training(self, batch_size: int, *, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batches:
        """Return shuffled, augmented batches; an incomplete last one is dropped.

        Raises:
            UsageError: there are too few images, or a batch can't be divided by the ranks.
        """
        part = self.contents["train"]
        share = Share(batch_size, rank, ranks)
        if len(part.rows) < batch_size:
            raise UsageError(
                f"{self.name} has {len(part.rows)} training images, "
                f"fewer than a batch of {batch_size}: use --batch-size {len(part.rows)} or less"
            )
        return TrainingBatches(part, share, self.treatment, self.statistics, seed)

    def evaluation(self, part: str, batch_size: int, *, rank: int = 0, ranks: int = 1) -> Batches:
        """Return the images of a part in order, the last batch filled with ``PADDING``.

        Raises:
            UsageError: there is no such part, or a batch can't be divided by the ranks.
        """
        if part not in self.contents:
            raise UsageError(f"{self.name} has no part {part!r}; it has {', '.join(self.parts)}")
        return EvaluationBatches(
            self.contents[part], Share(batch_size, rank, ranks), self.statistics
        )


@dataclass(frozen=True)
class Share:
    """The contiguous slice of each batch that a rank takes."""

    batch_size: int
    rank: int
    ranks: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {self.batch_size}")
        if not 0 <= self.rank < self.ranks:
            raise UsageError(f"there is no rank {self.rank} of {self.ranks}")
        if self.batch_size % self.ranks:
            raise UsageError(
                f"a batch of {self.batch_size} images can't be divided by {self.ranks} ranks"
            )

    @property
    def slice(self) -> slice:
        """The rank's slice of a batch."""
        size = self.batch_size // self.ranks
        return slice(self.rank * size, (self.rank + 1) * size)


@dataclass(frozen=True)
class TrainingBatches:
    """Batches shuffled by seed and epoch, augmented by seed, epoch and step."""

    part: Part
    share: Share
    treatment: Treatment
    statistics: Statistics
    seed: int

    @property
    def count(self) -> int:
        """Number of images in an epoch, over all ranks."""
        return len(self) * self.share.batch_size

    def __len__(self) -> int:
        return len(self.part.rows) // self.share.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, starting at step ``start``."""
        shuffle = generator(Purpose.SHUFFLE, self.seed, epoch)
        order = self.part.rows[shuffle.permutation(len(self.part.rows))]
        size = self.share.batch_size
        for step in range(start, len(self)):
            rows = order[step * size : (step + 1) * size][self.share.slice]
            random = generator(Purpose.AUGMENT, self.seed, epoch, step)
            yield Batch(self._images(rows, random), self.part.source.labels[rows])

    def _images(self, rows: Rows, random: np.random.Generator) -> NDArray[np.float32]:
        # Random numbers are drawn for the whole batch, so that images get the same in any rank.
        size, mine = self.share.batch_size, self.share.slice
        source = self.part.source
        if self.treatment.augmentation == "none":
            return normalize(source.pixels(rows), self.statistics)
        flipped = random.random(size)[mine] < 0.5
        if self.treatment.augmentation == "pad_crop_flip":
            offsets = random.integers(0, 2 * PAD + 1, (2, size))[:, mine]
            return pad_crop_flip(
                source.pixels(rows), self.statistics, Shift(offsets[0], offsets[1], flipped)
            )
        draws = random.random((size, TRIES, 4))[mine]
        images = normalize(source.crops(rows, draws), self.statistics)
        flip(images, flipped)
        return images


@dataclass(frozen=True)
class EvaluationBatches:
    """Batches in order, every image once, the same number for each rank."""

    part: Part
    share: Share
    statistics: Statistics

    @property
    def count(self) -> int:
        """Number of images in an epoch, over all ranks."""
        return len(self.part.rows)

    def __len__(self) -> int:
        return -(-self.count // self.share.batch_size)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches, starting at step ``start``, the same in every epoch."""
        size = self.share.batch_size
        for step in range(start, len(self)):
            places = np.arange(step * size, (step + 1) * size)[self.share.slice]
            yield self._batch(self.part.rows[places[places < self.count]], len(places))

    def _batch(self, rows: Rows, size: int) -> Batch:
        source = self.part.source
        images = np.zeros((size, *source.shape), np.float32)
        labels = np.full(size, PADDING, np.int64)
        if len(rows):
            images[: len(rows)] = normalize(source.pixels(rows), self.statistics)
            labels[: len(rows)] = source.labels[rows]
        return Batch(images, labels)
