"""The slab of a block as a strip: which columns hold a feature, and which of them a step reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat, Moments, Normalize
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
class Reading:
    """How a step reads a slab.

    Attributes:
        windows: ranges of adjacent columns, from the first to the one after the last, that it
            normalizes where they are.
        copies: features of which it reads a copy, since it does not normalize them first.
    """

    windows: tuple[tuple[int, int], ...]
    copies: tuple[str, ...]


@dataclass(frozen=True)
class Strip:
    """A slab of a block.

    Attributes:
        channels: its width.
        columns: those of each feature, from the first to the last.
        steps: how each step that is executed reads the slab, by the feature that it writes.
    """

    channels: int
    columns: tuple[Columns, ...]
    steps: dict[str, Reading]

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
    steps: dict[str, list[Node]] = {}
    for node in graph.nodes:
        layer, stage = node.origin.layer, node.origin.stage
        if node.origin.section == section and layer is not None and stage is not None:
            steps.setdefault(str(Feature(block.index, layer, stage)), []).append(node)
    read = {
        value for nodes in steps.values() for norm in nodes for value in _normalized(norm, graph)
    }
    return [_strip(slab, steps, graph) for slab in graph.slabs if not read.isdisjoint(slab.values)]


def _strip(slab: Slab, steps: dict[str, list[Node]], graph: Graph) -> Strip:
    names = {value: name for name, nodes in steps.items() for n in nodes for value in n.outputs}
    outside = [value for value in slab.values if value not in names]
    # Besides what the block writes, its steps read its input.
    names |= {value: value.hint if i else "X0" for i, value in enumerate(outside)}
    return Strip(
        slab.channels,
        tuple(Columns(names[value], *columns) for value, columns in slab.columns.items()),
        {
            writes: Reading(
                tuple(window for node in nodes for window in _windows(node, slab, graph)),
                tuple(dict.fromkeys(names[v] for n in nodes for v in _copied(n, slab, graph))),
            )
            for writes, nodes in steps.items()
        },
    )


def _windows(node: Node, slab: Slab, graph: Graph) -> list[tuple[int, int]]:
    """The columns that a node normalizes where they are."""
    values = _normalized(node, graph)
    return slab.windows(values) if {*values} <= slab.columns.keys() else []


def _normalized(node: Node, graph: Graph) -> tuple[Value, ...]:
    """The features that a node normalizes together, none if it does something else."""
    if not isinstance(node.op, Normalize):
        return ()
    maker = graph.producers[node.inputs[0]]
    return maker.inputs if isinstance(maker.op, Concat) else node.inputs[:1]


def _copied(node: Node, slab: Slab, graph: Graph) -> Iterator[Value]:
    """The features that a node reads otherwise, except those that its own step is writing."""
    readers = graph.consumers.get(node.outputs[0], ())
    is_gathered = isinstance(node.op, Concat) and any(isinstance(r.op, Normalize) for r in readers)
    if is_gathered or isinstance(node.op, Moments | Normalize):
        return
    for value in node.inputs:
        if value in slab.columns and graph.producers[value].origin != node.origin:
            yield value
