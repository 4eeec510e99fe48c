"""The slab of a block as a strip: which columns hold a feature, and which of them a step reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat, Normalize
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import Part, Section
from cliquegraph.passes.pipeline import LEVELS, passes_of
from cliquegraph.passes.slabs import LayOut
from cliquegraph.steps.graph import BlockSteps, Feature

LEVEL = min(level for level in LEVELS if any(isinstance(p, LayOut) for p in passes_of(level)))
"""The first level at which the features of a block lie in a slab."""


@dataclass(frozen=True)
class Columns:
    """The columns of a slab that hold a feature, from ``start`` to ``stop``."""

    feature: str
    start: int
    stop: int


@dataclass(frozen=True)
class Strip:
    """A slab of a block.

    Attributes:
        channels: its width.
        columns: those of each feature, from the first to the last.
        windows: the ranges of adjacent columns that a step reads, by the feature that it writes.
    """

    channels: int
    columns: tuple[Columns, ...]
    windows: dict[str, list[tuple[int, int]]]

    def as_data(self) -> dict[str, object]:
        """Return it for the script of a page."""
        return asdict(self)


def strips(block: BlockSteps, graph: Graph) -> list[Strip]:
    """Return the slabs that steps of a block read; none if its readers concatenate.

    Args:
        block: the unrolled block.
        graph: its network at a level with slabs.
    """
    section = Section(Part.BLOCK, block.index)
    nodes = [node for node in graph.nodes if node.origin.section == section]
    names = dict(_features(block, nodes))
    reads = dict(_reads(block, nodes, graph))
    found = [_strip(slab, names, reads) for slab in graph.slabs]
    return [strip for strip in found if strip.windows]


def _strip(slab: Slab, names: dict[Value, str], reads: dict[str, tuple[Value, ...]]) -> Strip:
    columns = slab.columns
    return Strip(
        slab.channels,
        # Besides what the block writes, its steps read nothing but its input.
        tuple(Columns(names.get(value, "X0"), *columns[value]) for value in slab.values),
        {
            writes: slab.windows(values)
            for writes, values in reads.items()
            if columns.keys() >= {*values}
        },
    )


def _features(block: BlockSteps, nodes: list[Node]) -> Iterator[tuple[Value, str]]:
    """The values that steps write, with their features' names; every node of a step may write it.

    What lies in a slab is a feature, so no other value of the step is mistaken for it.
    """
    for node in nodes:
        layer, stage = node.origin.layer, node.origin.stage
        if layer is not None and stage is not None:
            for value in node.outputs:
                yield value, str(Feature(block.index, layer, stage))


def _reads(
    block: BlockSteps, nodes: list[Node], graph: Graph
) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """What each step normalizes, by the feature that it writes."""
    read: dict[str, dict[Value, None]] = {}
    for node in nodes:
        layer, stage = node.origin.layer, node.origin.stage
        if isinstance(node.op, Normalize) and layer is not None and stage is not None:
            maker = graph.producers[node.inputs[0]]
            values = maker.inputs if isinstance(maker.op, Concat) else node.inputs[:1]
            writes = str(Feature(block.index, layer, stage))
            read.setdefault(writes, {}).update(dict.fromkeys(values))
    for writes, found in read.items():
        yield writes, tuple(found)
