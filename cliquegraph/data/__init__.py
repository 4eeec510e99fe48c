"""Data sets for training: readers, normalization, augmentation, batches; NumPy only."""

from cliquegraph.data.batches import (
    PADDING,
    Augmentation,
    Batch,
    Batches,
    Dataset,
    Images,
    Normalization,
    Statistics,
    Treatment,
)
from cliquegraph.data.open import NAMES, open_data
from cliquegraph.data.pictures import load_image, margin_of
from cliquegraph.data.prefetch import prefetched
from cliquegraph.data.statistics import known_statistics

Normalisation = Normalization

__all__ = [
    "NAMES",
    "PADDING",
    "Augmentation",
    "Batch",
    "Batches",
    "Dataset",
    "Images",
    "Normalisation",
    "Normalization",
    "Statistics",
    "Treatment",
    "known_statistics",
    "load_image",
    "margin_of",
    "open_data",
    "prefetched",
]
