"""Data sets for training: readers, normalisation, augmentation, batches; NumPy only."""

from cliquegraph.data.batches import (
    PADDING,
    Augmentation,
    Batch,
    Batches,
    Dataset,
    Images,
    Normalisation,
    Statistics,
    Treatment,
)
from cliquegraph.data.open import NAMES, open_data
from cliquegraph.data.pictures import load_image
from cliquegraph.data.prefetch import prefetched
from cliquegraph.data.statistics import known_statistics

__all__ = [
    "NAMES",
    "PADDING",
    "Augmentation",
    "Batch",
    "Batches",
    "Dataset",
    "Images",
    "Normalisation",
    "Statistics",
    "Treatment",
    "known_statistics",
    "load_image",
    "open_data",
    "prefetched",
]
