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
from cliquegraph.data.open import NAMES, known_statistics, open_data
from cliquegraph.data.pictures import load_image
from cliquegraph.data.prefetch import prefetched

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
