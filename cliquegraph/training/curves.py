"""The metrics of a run, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Curves:
    """The metrics of one run.

    Attributes:
        name: the run's name.
        epochs: number of completed epochs at each measurement, from 1.
        loss: by part, mean cross entropy after each epoch.
        accuracy: by part, top-1 accuracy after each epoch.
    """

    name: str
    epochs: Sequence[int]
    loss: Mapping[str, Sequence[float]]
    accuracy: Mapping[str, Sequence[float]]
