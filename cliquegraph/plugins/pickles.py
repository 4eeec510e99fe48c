"""Readers of PyTorch's pickled files, and their discovery."""

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
    """A reader of PyTorch's pickled files, from the entry point group ``cliquegraph.pickles``."""

    def __call__(self, path: Path) -> TensorSource:
        """Open a file without executing code in it.

        Raises:
            WeightsError: it is not such a file, or holds more than tensors.
            BackendError: the framework is missing.
        """


def pickle_readers() -> Sequence[EntryPoint]:
    """Return the entry points of readers of PyTorch's files, without importing them."""
    return entry_points_of(GROUP)
