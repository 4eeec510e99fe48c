"""Random choices: what each is drawn from, and stratified subsets."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What random numbers are for; each purpose has numbers of its own."""

    VALIDATION = 1
    SUBSET = 2
    SHUFFLE = 3
    AUGMENT = 4
    TEST = 5
    SYNTHETIC = 6


def generator(purpose: Purpose, seed: int, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Return random numbers that depend on the arguments only."""
    return np.random.default_rng([purpose, seed, epoch, step])


def stratified(
    labels: NDArray[np.int64], count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return ``count`` rows, ascending, with the classes' shares kept as far as numbers can.

    With the same random numbers, fewer rows are a subset of more.
    """
    order = random.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    sorted_labels = labels[by_class]
    position = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[sorted_labels]
    share = (position + 0.5) / sizes[sorted_labels]
    first = np.lexsort((random.random(len(labels)), share))[:count]
    return np.sort(by_class[first])
