"""A session's view of the network that an engine trains."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cliquegraph.ir.storage import Array
from cliquegraph.training.scores import Totals


class Trainee(Protocol):
    """A network in training, in its engine.

    A session calls each method in every rank at the same step, so they may communicate.
    """

    @property
    def alone(self) -> bool:
        """Whether there is only one rank."""

    def totals(self) -> Totals:
        """Return the totals since the last call, over all ranks."""

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any rank."""

    def save(self, folder: Path) -> None:
        """Write the training state; one rank creates files in the folder."""

    def tensors(self) -> dict[str, Array]:
        """Return the canonical tensors, by name."""
