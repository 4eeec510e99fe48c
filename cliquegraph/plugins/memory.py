"""What a backend says of its models' memory, and how one that does is found.

How much a training step takes is a matter of the framework: what its operations save for the
backward pass, and what runs as one call. A backend may predict it, and need not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.backends import find_backend, installed

if TYPE_CHECKING:  # what the protocol names is of rooms that find backends here
    from cliquegraph.ir.graph import Graph
    from cliquegraph.ir.types import Section


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one update stores for backward."""

    section: Section
    stage: int
    layer: int
    stored: int


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of a training step.

    Attributes:
        batch, dtype: what they hold for.
        stored: stored for backward, in all.
        sections: the same, for each section.
        steps: the same, for each update, in the order of execution.
        peak: the most in use at any time, with images, parameters and their gradients.
    """

    batch: int
    dtype: str
    stored: int
    sections: dict[Section, int]
    steps: tuple[StepMemory, ...]
    peak: int

    @property
    def stored_per_image(self) -> int:
        """Bytes stored for backward, divided by the images of the batch."""
        return self.stored // self.batch


@runtime_checkable
class PredictsMemory(Protocol):
    """A backend that predicts the memory of a training step of its models."""

    def memory(self, graph: Graph, *, batch: int = 1, dtype: str = "float32") -> MemoryPlan:
        """Predict it; imports nothing of the framework.

        Args:
            graph: a network at any -O level.
            batch: images in the batch.
            dtype: what is computed in.

        Raises:
            UsageError: the framework has no such dtype.
        """


def memory_model(name: str | None = None) -> PredictsMemory:
    """Return a backend that predicts memory: the one named, or the first that is installed.

    Raises:
        BackendError: there is no such backend, or it predicts none.
    """
    if name is None:
        for _, backend in _predicting():
            return backend
        raise BackendError(
            f"no installed backend predicts the memory of training: {', '.join(installed())}"
        )
    chosen = find_backend(name)
    if not isinstance(chosen, PredictsMemory):
        able = ", ".join(each for each, _ in _predicting()) or "none"
        raise BackendError(
            f"backend {name!r} predicts no memory of training; those that do: {able}"
        )
    return chosen


def _predicting() -> Iterator[tuple[str, PredictsMemory]]:
    for name in installed():
        try:
            backend = find_backend(name)
        except BackendError:  # a package that fails to load is refused where it is asked for
            continue
        if isinstance(backend, PredictsMemory):
            yield name, backend
