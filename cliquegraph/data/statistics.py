"""What images are normalised with."""

from __future__ import annotations

import numpy as np

from cliquegraph.data.batches import Normalisation, Statistics
from cliquegraph.data.dataset import Part
from cliquegraph.data.folder import Files
from cliquegraph.data.source import Rows, Source
from cliquegraph.diagnostics.errors import UsageError

IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEASURED_FILES = 4096
"""Images of a folder that the statistics are of, at most: each has to be decoded."""

_AT_ONCE = 512


def statistics_of(train: Part, normalisation: Normalisation) -> Statistics:
    """Return the statistics that a recipe asks for, of the images that are trained on.

    Raises:
        UsageError: as of ``known_statistics``.
    """
    known = known_statistics(normalisation, train.source.shape[0])
    return measured(train.source, _measurable(train)) if known is None else known


def known_statistics(normalisation: Normalisation, channels: int) -> Statistics | None:
    """Return the statistics that hold whatever the images; None where the images decide.

    Raises:
        UsageError: those of ImageNet are asked for, and the images are not coloured.
    """
    match normalisation:
        case "standard":
            return None
        case "unit":
            return Statistics((0.0,) * channels, (1.0,) * channels)
        case "imagenet":
            if channels != len(IMAGENET.mean):
                raise UsageError(
                    f"ImageNet's statistics are of 3 channels, the images have {channels}: "
                    "normalise them as 'standard' or 'unit'"
                )
            return IMAGENET


def _measurable(train: Part) -> Rows:
    if not isinstance(train.source, Files):
        return train.rows
    return train.rows[:: -(-len(train.rows) // MEASURED_FILES)]


def measured(source: Source, rows: Rows) -> Statistics:
    """Return the mean and the standard deviation of some images' channels.

    Sums of whole numbers are exact, so that the result does not depend on how they are added.
    A channel that is constant is divided by 1.
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
