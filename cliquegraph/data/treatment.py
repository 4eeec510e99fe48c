"""Normalisation and augmentation of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.batches import Statistics

PAD = 4
"""Zeros at each side before a crop of the full size is taken."""


def normalised(pixels: NDArray[np.uint8], statistics: Statistics) -> NDArray[np.float32]:
    """Return images (n, C, H, W) as a network sees them."""
    found = np.empty(pixels.shape, np.float32)
    _normalise(pixels, statistics, found)
    return found


def _normalise(
    pixels: NDArray[np.uint8], statistics: Statistics, found: NDArray[np.float32]
) -> None:
    mean, std = (np.array(each)[:, None, None] for each in (statistics.mean, statistics.std))
    np.multiply(pixels, (1 / (255 * std)).astype(np.float32), out=found)
    found -= (mean / std).astype(np.float32)


@dataclass(frozen=True)
class Shift:
    """How images are cropped after padding, and which are flipped.

    Attributes:
        down, right: (n,), 0 to 2 × ``PAD``.
        flipped: (n,).
    """

    down: NDArray[np.int64]
    right: NDArray[np.int64]
    flipped: NDArray[np.bool_]


def pad_crop_flip(
    pixels: NDArray[np.uint8], statistics: Statistics, shift: Shift
) -> NDArray[np.float32]:
    """Return images (n, C, H, W), normalised, then padded with zeros, cropped and flipped.

    Zeros are the mean colour then: the way of the networks for CIFAR since ResNet.
    """
    count, channels, height, width = pixels.shape
    padded = np.zeros((count, channels, height + 2 * PAD, width + 2 * PAD), np.float32)
    _normalise(pixels, statistics, padded[:, :, PAD:-PAD, PAD:-PAD])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
    found = windows[np.arange(count), :, shift.down, shift.right]
    flip(found, shift.flipped)
    return found


def flip(images: NDArray[np.float32], flipped: NDArray[np.bool_]) -> None:
    """Mirror the chosen images in place, left to right."""
    images[flipped] = images[flipped][..., ::-1]
