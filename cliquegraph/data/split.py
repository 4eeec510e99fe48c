"""Random generators by purpose, and stratified subsets."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """The purpose of random numbers; each has its own stream."""

    VALIDATION = 1
    SUBSET = 2
    SHUFFLE = 3
    AUGMENT = 4
    TEST = 5
    SYNTHETIC = 6


def generator(purpose: Purpose, seed: int, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Return a generator that depends only on the arguments."""
    return np.random.default_rng([purpose, seed, epoch, step])


def stratified(
    labels: NDArray[np.int64], count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return ``count`` rows, ascending, with class proportions preserved up to rounding.

    With the same generator state, a smaller result is a subset of a larger one.
    """
    order = random.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    sorted_labels = labels[by_class]
    position = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[sorted_labels]
    share = (position + 0.5) / sizes[sorted_labels]
    first = np.lexsort((random.random(len(labels)), share))[:count]
    return np.sort(by_class[first])
