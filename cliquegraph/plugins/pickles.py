"""What reads PyTorch's own files, and how it is found."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:
    from cliquegraph.weights.source import TensorSource

GROUP = "cliquegraph.pickles"


class PickleReader(Protocol):
    """What the entry point group ``cliquegraph.pickles`` offers: reads PyTorch's own files."""

    def __call__(self, path: Path) -> TensorSource:
        """Open a file without running anything that it holds.

        Raises:
            WeightsError: it is no such file, or holds more than tensors.
            BackendError: the framework is missing.
        """


def pickle_readers() -> Sequence[EntryPoint]:
    """Return what can read PyTorch's own files; nothing is imported yet."""
    return entry_points_of(GROUP)
