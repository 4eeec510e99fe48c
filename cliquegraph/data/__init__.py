"""Data sets for training: readers, normalisation, augmentation, batches; NumPy only."""

from cliquegraph.data.batches import (
    PADDING,
    Augmentation,
    Batch,
    Batches,
    Dataset,
    Normalisation,
    Treatment,
)

__all__ = [
    "PADDING",
    "Augmentation",
    "Batch",
    "Batches",
    "Dataset",
    "Normalisation",
    "Treatment",
]
