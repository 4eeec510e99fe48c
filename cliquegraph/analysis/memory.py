"""The memory plan: what a training step of the generated PyTorch code needs, in bytes.

What is stored for backward is what autograd holds when the forward pass is done. A value that
several calls keep is one storage and counts for the first of them. Parameters do not count, nor
does what the logits do not depend on: it is freed as soon as it is computed. Statistics over the
batch, and under autocast copies of weights, are as large for any batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from cliquegraph.analysis.eager import behind_logits, calls_of
from cliquegraph.analysis.peak import peak_bytes
from cliquegraph.analysis.precision import Sizes, precision_of
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
        peak: the most in use at any time, with images, parameters and their gradients
            (``analysis/peak.py`` says what is counted).
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


def memory_plan(graph: Graph, *, batch: int = 1, dtype: str = "float32") -> MemoryPlan:
    """Predict the memory of a training step.

    Args:
        graph: a network at any -O level.
        batch: images in the batch.
        dtype: float32, float64, or the 16 bits that autocast computes in.

    Raises:
        UsageError: there is no such dtype.

    >>> import cliquegraph
    >>> compilation = cliquegraph.Compilation(cliquegraph.load("specs/quickstart.yaml"))
    >>> plan = memory_plan(compilation.graph, batch=2)
    >>> plan.stored == sum(plan.sections.values())
    True
    """
    sizes = Sizes(precision_of(dtype), batch)
    calls = calls_of(graph)
    live = behind_logits(graph, calls)
    seen: set[Hashable] = set()
    sections = dict.fromkeys((node.origin.section for node in graph.nodes), 0)
    steps: dict[tuple[Section, int, int], int] = defaultdict(int)
    for call in calls:
        kept = call.kept(sizes) if call in live else {}
        stored = sum(size for key, size in kept.items() if key not in seen)
        seen.update(kept)
        origin = call.origin
        sections[origin.section] += stored
        if origin.stage is not None and origin.layer is not None:
            steps[origin.section, origin.stage, origin.layer] += stored
    return MemoryPlan(
        batch=batch,
        dtype=dtype,
        stored=sum(sections.values()),
        sections=sections,
        steps=tuple(StepMemory(*place, stored) for place, stored in steps.items()),
        peak=peak_bytes(graph, calls, sizes),
    )
