"""Remove the updates whose results are unused."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.types import Param


@dataclass(frozen=True)
class DropDeadSteps:
    """Execute only the updates that the logits or the block features depend on.

    1. An update whose result is unused, such as stage 2 of a last block whose feature is that of
       stage 1 (I+II), is no longer executed. Its nodes become ``Graph.idle``, unused but retained:
       their parameters still belong to the network. An update whose running statistics a live
       update shares (``norm_per_stage: false``) is live too.
    """

    name = "drop dead steps"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph without dead updates."""
        statistics: set[Param] = set()
        while True:
            live, dead = _split(graph, statistics)
            moved = {param for param in _read(live) if not param.field.trainable}
            if moved <= statistics:
                return replace(graph, nodes=live, idle=(*dead, *graph.idle))
            statistics |= moved


def _split(
    graph: Graph, statistics: Collection[Param]
) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Split the nodes into those needed for outputs or for ``statistics``, and the others."""
    needed = set(graph.outputs)
    live: list[Node] = []
    dead: list[Node] = []
    for origin, group in groupby(reversed(graph.nodes), key=lambda node: node.origin):
        nodes = list(group)
        written = {value for node in nodes for value in node.outputs}
        if origin.layer is None or written & needed or _read(nodes) & set(statistics):
            needed.update(value for node in nodes for value in node.inputs)
            live += nodes
        else:
            dead += nodes
    return tuple(reversed(live)), tuple(reversed(dead))


def _read(nodes: Iterable[Node]) -> set[Param]:
    return {operand.param for node in nodes for operand in node.operands}
