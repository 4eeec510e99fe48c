"""The interface of a data set: batches of images, the same for every framework."""

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

Normalization = Literal["standard", "unit", "imagenet"]
Augmentation = Literal["none", "pad_crop_flip", "resized_crop_flip"]


@dataclass(frozen=True)
class Batch:
    """Images and their classes.

    Attributes:
        images: (N, C, H, W), float32, normalized.
        labels: (N,), int64; ``PADDING`` for an image that is not counted.
    """

    images: Images
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Treatment:
    """Preprocessing of images (section 4.1).

    Attributes:
        normalisation: ``standard`` subtracts the mean and divides by the standard deviation of
            the training set's channels, ``unit`` divides by 255, ``imagenet`` uses the statistics
            of ImageNet.
        augmentation: of training images: ``pad_crop_flip`` pads by 4, crops at random and
            flips; ``resized_crop_flip`` crops a random part, resizes and flips.
    """

    normalisation: Normalization = "standard"
    augmentation: Augmentation = "none"


@dataclass(frozen=True)
class Statistics:
    """Mean and std of the normalization (pixel / 255 - mean) / std, by channel.

    Bounds are checked where statistics are read from a file.
    """

    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    # The bound is below that of any 8-bit images, unless a channel is constant (then std is 1).
    std: tuple[Annotated[float, Field(ge=1e-9, le=1)], ...]

    def to_json(self) -> dict[str, list[float]]:
        """Return it as JSON data, without loss."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def require_channels(self, channels: int) -> None:
        """Raise a ``UsageError`` unless they are for images with this number of channels."""
        if len(self.mean) != channels or len(self.std) != channels:
            raise UsageError(
                f"statistics for {len(self.mean)} channels, but images have {channels}"
            )


class Batches(Protocol):
    """A split of a data set, in batches: a pure function of seed, epoch and step."""

    @property
    def count(self) -> int:
        """Number of images in an epoch, over all ranks."""

    def __len__(self) -> int:
        """Number of batches in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, starting at step ``start``."""


class Dataset(Protocol):
    """Images and labels, split into training, validation and test sets."""

    @property
    def name(self) -> str:
        """Its name for ``open_data``."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of train, validation and test that exist."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by label."""

    @property
    def statistics(self) -> Statistics:
        """The statistics by which images are normalized."""

    def training(self, batch_size: int, *, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batches:
        """Return shuffled, augmented batches; an incomplete last one is dropped.

        ``batch_size`` is the total over all ranks. Each rank takes a contiguous slice of each
        batch; the union over the ranks is bit-identical for any number of ranks.
        """

    def evaluation(self, part: str, batch_size: int, *, rank: int = 0, ranks: int = 1) -> Batches:
        """Return the images of a part in order, the last batch filled with ``PADDING``."""
