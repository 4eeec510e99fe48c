"""Pool before channel-wise attention scales the maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import AvgPool, ScaleChannels
from cliquegraph.passes.rewrite import rewrite


@dataclass(frozen=True)
class PoolFirst:
    """Scale the maps of a transition after its average pool: a quarter of the elements.

    1. ``avg_pool(scale_channels(x, z))`` becomes ``scale_channels(avg_pool(x), z)``: scaling by a
       constant commutes with the mean of a window.
    """

    name = "pool first"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with pools before scales."""
        delayed: dict[Value, Node] = {}

        def nodes_for(node: Node) -> Iterator[Node]:
            if isinstance(node.op, ScaleChannels) and _is_only_pooled(graph, node):
                delayed[node.output] = node
                return
            scale = delayed.get(node.inputs[0]) if node.inputs else None
            if scale is None:
                yield node
                return
            maps, vector = scale.inputs
            pooled = Value(node.output.type)
            yield replace(node, inputs=(maps,), outputs=(pooled,))
            yield replace(scale, inputs=(pooled, vector), outputs=node.outputs)

        return rewrite(graph, nodes_for)


def _is_only_pooled(graph: Graph, node: Node) -> bool:
    readers = graph.consumers.get(node.output, ())
    return (
        len(readers) == 1
        and isinstance(readers[0].op, AvgPool)
        and node.output not in graph.outputs
    )
