"""What passes share: rewriting nodes in place, in the order of execution."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from cliquegraph.ir.graph import Graph, Node, Value

Rewrite = Callable[[Node], Iterable[Node]]


def rewrite(graph: Graph, nodes_for: Rewrite, values: dict[Value, Value]) -> Graph:
    """Return the graph with other nodes in the place of each.

    Args:
        graph: the graph.
        nodes_for: the nodes that stand for one, none or several. It is given the node with its
            inputs as rewritten so far, and may add to ``values``.
        values: what stands for values that are gone, for all that read them later.
    """

    def current(node: Node) -> Node:
        inputs = tuple(values.get(value, value) for value in node.inputs)
        return node if inputs == node.inputs else replace(node, inputs=inputs)

    nodes = tuple(new for node in graph.nodes for new in nodes_for(current(node)))
    return replace(
        graph,
        nodes=nodes,
        logits=values.get(graph.logits, graph.logits),
        features=tuple(values.get(value, value) for value in graph.features),
        idle=tuple(current(node) for node in graph.idle),
    )
