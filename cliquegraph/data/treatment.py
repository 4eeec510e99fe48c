"""Normalization and augmentation of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.batches import Statistics

PAD = 4
"""Width of the zero padding on each side before a crop of the full size."""


def normalize(pixels: NDArray[np.uint8], statistics: Statistics) -> NDArray[np.float32]:
    """Return images (n, C, H, W), normalized."""
    images = np.empty(pixels.shape, np.float32)
    _normalize_into(pixels, statistics, images)
    return images


def _normalize_into(
    pixels: NDArray[np.uint8], statistics: Statistics, out: NDArray[np.float32]
) -> None:
    mean, std = (np.array(each)[:, None, None] for each in (statistics.mean, statistics.std))
    np.multiply(pixels, (1 / (255 * std)).astype(np.float32), out=out)
    out -= (mean / std).astype(np.float32)


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
    """Return images (n, C, H, W), normalized, then padded with zeros, cropped and flipped.

    Zeros are then the mean color, as for CIFAR networks since ResNet.
    """
    count, channels, height, width = pixels.shape
    padded = np.zeros((count, channels, height + 2 * PAD, width + 2 * PAD), np.float32)
    _normalize_into(pixels, statistics, padded[:, :, PAD:-PAD, PAD:-PAD])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
    images = windows[np.arange(count), :, shift.down, shift.right]
    flip(images, shift.flipped)
    return images


def flip(images: NDArray[np.float32], flipped: NDArray[np.bool_]) -> None:
    """Mirror the chosen images in place, left to right."""
    images[flipped] = images[flipped][..., ::-1]
