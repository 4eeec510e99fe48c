"""What every data set gives: batches of images, the same for every framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cliquegraph.diagnostics.errors import UsageError

Images = NDArray[np.float32]
"""(N, C, H, W)"""

PADDING = -1
"""The label of an image that only fills the last batch of an evaluation."""

Normalisation = Literal["standard", "unit", "imagenet"]
Augmentation = Literal["none", "pad_crop_flip", "resized_crop_flip"]


@dataclass(frozen=True)
class Batch:
    """Images and their classes.

    Attributes:
        images: (N, C, H, W), float32, normalised.
        labels: (N,), int64; ``PADDING`` for an image that doesn't count.
    """

    images: Images
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Treatment:
    """What is done to images before the network sees them (section 4.1).

    Attributes:
        normalisation: ``standard`` subtracts the mean and divides by the standard deviation of
            the training set's channels, ``unit`` divides by 255, ``imagenet`` uses the figures
            of ImageNet.
        augmentation: of training images: ``pad_crop_flip`` pads by 4, crops at random and
            flips; ``resized_crop_flip`` crops a random part, resizes and flips.
    """

    normalisation: Normalisation = "standard"
    augmentation: Augmentation = "none"


@dataclass(frozen=True)
class Statistics:
    """What images are normalised with: (pixel / 255 - mean) / std, by channel.

    Bounds are checked where statistics are read from a file.
    """

    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    # Smaller than any that images of 8 bits have, unless a channel is constant (then it is 1).
    std: tuple[Annotated[float, Field(ge=1e-9, le=1)], ...]

    def to_json(self) -> dict[str, list[float]]:
        """Return what JSON can hold, with no loss."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def require_channels(self, channels: int) -> None:
        """Raise a ``UsageError`` unless they are those of images with so many channels."""
        if len(self.mean) != channels or len(self.std) != channels:
            raise UsageError(f"statistics of {len(self.mean)} channels, images of {channels}")


class Batches(Protocol):
    """A part of a data set, in batches: a pure function of seed, epoch and step."""

    @property
    def count(self) -> int:
        """Images in an epoch, over all ranks."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step ``start`` on."""


class Dataset(Protocol):
    """Images and labels, split into what is trained on, validated on and tested on."""

    @property
    def name(self) -> str:
        """What ``open_data`` knows it by."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Of train, validation and test, those that there are."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, by label."""

    @property
    def statistics(self) -> Statistics:
        """What the images are normalised with."""

    def training(self, batch_size: int, *, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batches:
        """Return shuffled, augmented batches; an incomplete last one is dropped.

        ``batch_size`` is that of all ranks together. A rank takes its contiguous slice of each
        batch; the union over the ranks has the same bits for any number of them.
        """

    def evaluation(self, part: str, batch_size: int, *, rank: int = 0, ranks: int = 1) -> Batches:
        """Return the images of a part in order, the last batch filled with ``PADDING``."""
