"""What passes share: replacing nodes in the order of execution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value

Rewrite = Callable[[Node], Iterable[Node]]

_NOTHING: Mapping[Value, Value] = MappingProxyType({})


def rewrite(graph: Graph, nodes_for: Rewrite, values: Mapping[Value, Value] = _NOTHING) -> Graph:
    """Return the graph with each node replaced by others.

    Args:
        graph: the graph.
        nodes_for: returns the replacement of a node, none or several nodes. The node that it
            receives has rewritten inputs; it may add to ``values``.
        values: replacements of removed values, for all later readers; by default none.
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
