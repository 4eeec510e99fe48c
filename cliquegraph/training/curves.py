"""What a run measured, by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Curves:
    """What one run measured.

    Attributes:
        name: of the run.
        epochs: from 1: how many had been done when it was measured.
        loss: by part, mean cross entropy after each.
        accuracy: by part, share of images after each.
    """

    name: str
    epochs: Sequence[int]
    loss: Mapping[str, Sequence[float]]
    accuracy: Mapping[str, Sequence[float]]
