"""Remove the steps that nothing needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

from cliquegraph.ir.graph import Graph, Node


@dataclass(frozen=True)
class DropDeadSteps:
    """Execute only the updates that the logits or the block features depend on.

    1. An update that nothing needs, such as stage 2 of a last block whose feature is stage 1's
       (I+II), is executed no more. Its nodes are kept as idle: their parameters stay the
       network's, with the values that they have.
    """

    name = "drop dead steps"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph without dead updates."""
        needed = set(graph.outputs)
        live: list[Node] = []
        dead: list[Node] = []
        for origin, group in groupby(reversed(graph.nodes), key=lambda node: node.origin):
            nodes = list(group)
            written = {value for node in nodes for value in node.outputs}
            if origin.layer is None or written & needed:
                needed.update(value for node in nodes for value in node.inputs)
                live += nodes
            else:
                dead += nodes
        return replace(graph, nodes=tuple(reversed(live)), idle=(*reversed(dead), *graph.idle))
