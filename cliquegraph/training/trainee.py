"""What a session knows of the network that an engine trains."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cliquegraph.ir.storage import Array
from cliquegraph.training.scores import Totals


class Trainee(Protocol):
    """A network in training, as its engine holds it.

    A session calls each of these in every rank at the same step, so they may communicate.
    """

    @property
    def alone(self) -> bool:
        """Whether there is one rank only."""

    def totals(self) -> Totals:
        """Return what was counted since the last call, over all ranks."""

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any rank."""

    def save(self, folder: Path) -> None:
        """Write what training goes on from; one rank creates files in the folder."""

    def tensors(self) -> dict[str, Array]:
        """Return the canonical tensors, by name."""
