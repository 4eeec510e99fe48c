"""Batches of a data set: a pure function of seed, epoch and step, whatever the ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.batches import PADDING, Batch, Batches, Statistics, Treatment
from cliquegraph.data.pictures import TRIES
from cliquegraph.data.source import Rows, Source
from cliquegraph.data.split import Purpose, generator
from cliquegraph.data.treatment import PAD, Shift, flip, normalised, pad_crop_flip
from cliquegraph.diagnostics.errors import UsageError


@dataclass(frozen=True)
class Part:
    """Some rows of a source."""

    source: Source
    rows: Rows


@dataclass(frozen=True)
class ImageDataset:
    """A data set that is open, split and knows how its images are treated."""

    name: str
    classes: tuple[str, ...]
    treatment: Treatment
    statistics: Statistics
    contents: Mapping[str, Part]

    @property
    def parts(self) -> tuple[str, ...]:
        """Of train, validation and test, those that there are."""
        return tuple(self.contents)

    def training(self, batch_size: int, *, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batches:
        """Return shuffled, augmented batches; an incomplete last one is dropped.

        Raises:
            UsageError: there are too few images for a batch, or the ranks can't share one.
        """
        part = self.contents["train"]
        share = Share(batch_size, rank, ranks)
        if len(part.rows) < batch_size:
            raise UsageError(
                f"{self.name} has {len(part.rows)} images to train on, no batch of {batch_size}"
            )
        return TrainingBatches(part, share, self.treatment, self.statistics, seed)

    def evaluation(self, part: str, batch_size: int, *, rank: int = 0, ranks: int = 1) -> Batches:
        """Return the images of a part in order, the last batch filled with ``PADDING``.

        Raises:
            UsageError: there is no such part, or the ranks can't share a batch.
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
            raise UsageError(f"a batch of {self.batch_size} images has no images")
        if not 0 <= self.rank < self.ranks:
            raise UsageError(f"there is no rank {self.rank} of {self.ranks}")
        if self.batch_size % self.ranks:
            raise UsageError(
                f"a batch of {self.batch_size} images can't be shared by {self.ranks} ranks"
            )

    @property
    def slice(self) -> slice:
        """Of the rank, in a batch."""
        size = self.batch_size // self.ranks
        return slice(self.rank * size, (self.rank + 1) * size)


@dataclass(frozen=True)
class TrainingBatches:
    """Shuffled by seed and epoch, augmented by seed, epoch and step."""

    part: Part
    share: Share
    treatment: Treatment
    statistics: Statistics
    seed: int

    @property
    def count(self) -> int:
        """Images in an epoch, over all ranks."""
        return len(self) * self.share.batch_size

    def __len__(self) -> int:
        return len(self.part.rows) // self.share.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step ``start`` on."""
        shuffle = generator(Purpose.SHUFFLE, self.seed, epoch)
        order = self.part.rows[shuffle.permutation(len(self.part.rows))]
        size = self.share.batch_size
        for step in range(start, len(self)):
            rows = order[step * size : (step + 1) * size][self.share.slice]
            random = generator(Purpose.AUGMENT, self.seed, epoch, step)
            yield Batch(self._images(rows, random), self.part.source.labels[rows])

    def _images(self, rows: Rows, random: np.random.Generator) -> NDArray[np.float32]:
        # Numbers are drawn for the batch of all ranks, so that each has those of its images.
        size, mine = self.share.batch_size, self.share.slice
        source = self.part.source
        if self.treatment.augmentation == "none":
            return normalised(source.pixels(rows), self.statistics)
        flipped = random.random(size)[mine] < 0.5
        if self.treatment.augmentation == "pad_crop_flip":
            offsets = random.integers(0, 2 * PAD + 1, (2, size))[:, mine]
            return pad_crop_flip(
                source.pixels(rows), self.statistics, Shift(offsets[0], offsets[1], flipped)
            )
        draws = random.random((size, TRIES, 4))[mine]
        images = normalised(source.crops(rows, draws), self.statistics)
        flip(images, flipped)
        return images


@dataclass(frozen=True)
class EvaluationBatches:
    """In order, every image once, the same number of batches for each rank."""

    part: Part
    share: Share
    statistics: Statistics

    @property
    def count(self) -> int:
        """Images in an epoch, over all ranks."""
        return len(self.part.rows)

    def __len__(self) -> int:
        return -(-self.count // self.share.batch_size)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield all batches from step ``start`` on, the same in every epoch."""
        size = self.share.batch_size
        for step in range(start, len(self)):
            places = np.arange(step * size, (step + 1) * size)[self.share.slice]
            yield self._batch(self.part.rows[places[places < self.count]], len(places))

    def _batch(self, rows: Rows, size: int) -> Batch:
        source = self.part.source
        images = np.zeros((size, *source.shape), np.float32)
        labels = np.full(size, PADDING, np.int64)
        if len(rows):
            images[: len(rows)] = normalised(source.pixels(rows), self.statistics)
            labels[: len(rows)] = source.labels[rows]
        return Batch(images, labels)
