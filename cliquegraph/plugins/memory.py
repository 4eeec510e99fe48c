"""Prediction of training memory by backends, and discovery of one that supports it.

The memory of a training step depends on the framework: what its operations save for backward, and
which of them run as one call. So do the bytes that it moves. Prediction is optional for a backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.backends import find_backend, installed

if TYPE_CHECKING:  # these modules import this one
    from cliquegraph.ir.graph import Graph
    from cliquegraph.ir.types import Section


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one update saves for backward."""

    section: Section
    stage: int
    layer: int
    stored: int


@dataclass(frozen=True, repr=False)
class MemoryPlan:
    """The memory of a training step, in bytes.

    Attributes:
        batch, dtype: the batch size and dtype of the prediction.
        stored: saved for backward, in total.
        sections: the same, for each section.
        steps: the same, for each update, in the order of execution.
        peak: the maximum in use at any time, including images, parameters and their gradients.
        moved_forward, moved_backward: what operators read and write of maps, each time they do;
            in PyTorch without Triton's kernels.
    """

    batch: int
    dtype: str
    stored: int
    sections: dict[Section, int]
    steps: tuple[StepMemory, ...]
    peak: int
    moved_forward: int
    moved_backward: int

    def __repr__(self) -> str:
        stored, peak = f"{self.stored:,} bytes saved for backward", f"peak {self.peak:,} bytes"
        moved = f"{self.moved_forward + self.moved_backward:,} bytes moved"
        return f"<MemoryPlan of a batch of {self.batch} in {self.dtype}: {stored}, {peak}, {moved}>"

    @property
    def stored_per_image(self) -> int:
        """Bytes saved for backward, per image of the batch."""
        return self.stored // self.batch


@runtime_checkable
class PredictsMemory(Protocol):
    """A backend that predicts the memory of a training step of its models."""

    def memory(self, graph: Graph, *, batch: int = 1, dtype: str = "float32") -> MemoryPlan:
        """Predict the memory of a training step, without importing the framework.

        Args:
            graph: a network at any -O level.
            batch: images in the batch.
            dtype: of the computation.

        Raises:
            UsageError: the framework does not support the dtype.
        """


def memory_model(name: str | None = None) -> PredictsMemory:
    """Return a backend that predicts memory: the named one, or the first one installed.

    Raises:
        BackendError: there is no such backend, or it does not predict memory.
    """
    if name is None:
        for _, backend in _predicting():
            return backend
        raise BackendError(
            f"no installed backend predicts training memory: {', '.join(installed())}"
        )
    chosen = find_backend(name)
    if not isinstance(chosen, PredictsMemory):
        able = ", ".join(each for each, _ in _predicting()) or "none"
        raise BackendError(
            f"backend {name!r} does not predict training memory; those that do: {able}"
        )
    return chosen


def _predicting() -> Iterator[tuple[str, PredictsMemory]]:
    for name in installed():
        try:
            backend = find_backend(name)
        except BackendError:  # reported when the backend is requested by name
            continue
        if isinstance(backend, PredictsMemory):
            yield name, backend
