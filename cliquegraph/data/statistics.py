"""The statistics by which images are normalized."""

from __future__ import annotations

import numpy as np

from cliquegraph.data.batches import Normalization, Statistics
from cliquegraph.data.dataset import Part
from cliquegraph.data.folder import Files
from cliquegraph.data.source import Rows, Source
from cliquegraph.diagnostics.errors import UsageError

IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEASURED_FILES = 4096
"""Maximum number of a folder's images to measure: each has to be decoded."""

_AT_ONCE = 512


def statistics_of(train: Part, normalisation: Normalization) -> Statistics:
    """Return the statistics for a normalization of the training images.

    Raises:
        UsageError: as in ``known_statistics``.
    """
    known = known_statistics(normalisation, train.source.shape[0])
    return measure(train.source, _measurable(train)) if known is None else known


def known_statistics(normalisation: Normalization, channels: int) -> Statistics | None:
    """Return statistics that are independent of the images; None if they must be measured.

    Raises:
        UsageError: ImageNet's are requested for images without 3 channels.
    """
    match normalisation:
        case "standard":
            return None
        case "unit":
            return Statistics((0.0,) * channels, (1.0,) * channels)
        case "imagenet":
            if channels != len(IMAGENET.mean):
                raise UsageError(
                    f"ImageNet's statistics have 3 channels, but the images have {channels}: "
                    "choose the normalisation 'standard' or 'unit'"
                )
            return IMAGENET


def _measurable(train: Part) -> Rows:
    if not isinstance(train.source, Files):
        return train.rows
    return train.rows[:: -(-len(train.rows) // MEASURED_FILES)]


def measure(source: Source, rows: Rows) -> Statistics:
    """Return the mean and the standard deviation of some images' channels.

    Integer sums are exact, so the result does not depend on the order of summation. The std of a
    constant channel is set to 1.
    """
    channels = source.shape[0]
    counts = np.zeros((channels, 256), np.int64)
    for first in range(0, len(rows), _AT_ONCE):
        pixels = source.pixels(rows[first : first + _AT_ONCE])
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(axis=1)
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return Statistics(tuple(map(float, mean)), tuple(map(float, std)))
