"""The memory plan: what a training step of the generated PyTorch code needs, in bytes.

Saved for backward is what autograd holds at the end of the forward pass. A value that several calls
save is one storage, counted for the first of them; of a slab, the columns of each value count for
the call that puts it there. Parameters are not counted, nor are values that
the logits do not depend on: these are freed as soon as they are computed. The size of batch
statistics, and of weight copies under autocast, does not depend on the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.types import Part, Section
from cliquegraph.plugins.memory import MemoryPlan, StepMemory
from cliquegraph_torch.eager import behind_logits, calls_of
from cliquegraph_torch.moved import moved_bytes
from cliquegraph_torch.peak import peak_bytes
from cliquegraph_torch.precision import Sizes, precision_of


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
    places = (node.origin.section for node in graph.nodes)
    sections = dict.fromkeys((each for each in places if each.part is not Part.NETWORK), 0)
    steps: dict[tuple[Section, int, int], int] = defaultdict(int)
    puts = {key: call for call in calls if call in live and call.puts for key in call.saved(sizes)}
    for call in calls:
        saved = call.saved(sizes) if call in live else {}
        # Who reads a slab holds all of it, but columns count where they are put.
        own = {key: size for key, size in saved.items() if puts.get(key, call) is call}
        stored = sum(size for key, size in own.items() if key not in seen)
        seen.update(own)
        origin = call.origin
        if stored:
            sections[origin.section] += stored
        if origin.stage is not None and origin.layer is not None:
            steps[origin.section, origin.stage, origin.layer] += stored
    forward, backward = moved_bytes(graph, calls, sizes)
    return MemoryPlan(
        batch=batch,
        dtype=dtype,
        stored=sum(sections.values()),
        sections=sections,
        steps=tuple(StepMemory(*place, stored) for place, stored in steps.items()),
        peak=peak_bytes(graph, calls, sizes),
        moved_forward=forward,
        moved_backward=backward,
    )
