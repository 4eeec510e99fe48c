"""Parameters, multiply–accumulates and activations, from the op graph.

MACs are those of convolutions and linear layers, at their output sizes, counted for every use;
parameters are the trainable tensors, each counted once however often it is used.
FLOPs are 2 × MACs, which reproduces the paper's column (Table 4).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Origin
from cliquegraph.ir.types import Part, Section, Tensor


@dataclass(frozen=True)
class Cost:
    """Figures of a part of a network; MACs, FLOPs and activations are for one image.

    ``activations`` counts the elements that the part's nodes write.
    """

    parameters: int
    macs: int
    activations: int

    @property
    def flops(self) -> int:
        """2 × MACs."""
        return 2 * self.macs


@dataclass(frozen=True)
class StepCost:
    """Figures of one update; its kernels may be shared with other updates."""

    section: Section
    stage: int
    layer: int
    cost: Cost


@dataclass(frozen=True, repr=False)
class NetworkCost:
    """Figures of a network: in total, for each section, for each update."""

    total: Cost
    sections: dict[Section, Cost]
    steps: tuple[StepCost, ...]

    def __repr__(self) -> str:
        total, parts = self.total, f"{len(self.sections)} sections, {len(self.steps)} updates"
        return f"<NetworkCost: {total.parameters:,} parameters, {total.macs:,} MACs; {parts}>"


def macs_by_stage(graph: Graph) -> dict[int, int]:
    """Return, for each stage, the declared MACs up to it and of its readout.

    Args:
        graph: of a network with a readout over time; of others, the result is empty.
    """
    of_stage = (Part.READOUT, Part.CLASSIFIER)
    stages = {node.origin.stage for node in graph.nodes if node.origin.section.part in of_stage}
    last = max(node.origin.section.index for node in graph.nodes)

    def counts(origin: Origin, stage: int) -> bool:
        if origin.section.part in of_stage:
            return origin.stage == stage
        is_last = origin.section == Section(Part.BLOCK, last)
        return not is_last or origin.stage is None or origin.stage <= stage

    return {
        stage: sum(node.macs for node in graph.nodes if counts(node.origin, stage))
        for stage in sorted(each for each in stages if each is not None)
    }


class _Tally:
    def __init__(self) -> None:
        self.tensors: set[Tensor] = set()
        self.macs = 0
        self.activations = 0

    @cached_property
    def cost(self) -> Cost:
        parameters = sum(tensor.size for tensor in self.tensors if tensor.field.trainable)
        return Cost(parameters, self.macs, self.activations)


def network_cost(graph: Graph) -> NetworkCost:
    """Return the parameters, MACs and activations of an op graph, for one image.

    ``summary`` takes a network itself, and returns rows with the memory and the depth too.

    Args:
        graph: the op graph, ``cliquegraph.lower(cliquegraph.unroll(network))``.

    Raises:
        UsageError: it is not a graph.

    >>> import cliquegraph
    >>> graph = cliquegraph.lower(cliquegraph.unroll("specs/quickstart.yaml"))
    >>> cliquegraph.network_cost(graph).total.parameters
    72994
    """
    require_type(graph, Graph, "cliquegraph.lower(cliquegraph.unroll(network))")
    total = _Tally()
    by_section: dict[Section, _Tally] = defaultdict(_Tally)
    by_step: dict[tuple[Section, int, int], _Tally] = defaultdict(_Tally)
    for node in graph.nodes:
        origin = node.origin
        if origin.section.part is Part.NETWORK:
            continue  # it draws a column, which costs nothing
        tallies = [total, by_section[origin.section]]
        if origin.stage is not None and origin.layer is not None:
            tallies.append(by_step[origin.section, origin.stage, origin.layer])
        tensors = {piece.tensor for operand in node.operands for piece in operand.pieces}
        for tally in tallies:
            tally.tensors |= tensors
            tally.macs += node.macs
            tally.activations += sum(value.type.elements for value in node.outputs)
    return NetworkCost(
        total=total.cost,
        sections={section: tally.cost for section, tally in by_section.items()},
        steps=tuple(StepCost(*place, tally.cost) for place, tally in by_step.items()),
    )
