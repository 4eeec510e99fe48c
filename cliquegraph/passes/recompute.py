"""Redo cheap work in the backward pass in place of keeping what it wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import BatchNorm, Concat, Conv, GlobalAvgPool, Normalize, Op, Relu


@dataclass(frozen=True)
class Recompute:
    """Keep no concatenation and nothing normalized: the features they are made of are kept.

    1. A chain concatenation–normalization–ReLU, or its last two, that one convolution or global
       average pool reads is marked: its backward pass does it again from the features and their
       moments. No convolution is done twice. What a convolution with a stride reads is kept.
       So is what a ``BatchNorm`` reads that has a mask.
    2. So is a concatenation that a convolution reads as it is (post-activation).

    Idle nodes are marked like live ones: updates that are alike share a class in generated code,
    whether they are called or hold their parameters alone.
    """

    name = "recompute"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with marks."""
        marked: set[Node] = set()
        for node in (*graph.nodes, *graph.idle):
            if isinstance(node.op, GlobalAvgPool) or _is_unit_conv(node):
                marked.update(_chain(graph, node))

        def mark(nodes: Iterable[Node]) -> tuple[Node, ...]:
            return tuple(replace(n, recompute=True) if n in marked else n for n in nodes)

        return replace(graph, nodes=mark(graph.nodes), idle=mark(graph.idle))


def _is_unit_conv(node: Node) -> bool:
    """Whether a node is a convolution that a unit can run; none has a stride."""
    return isinstance(node.op, Conv) and node.op.stride == 1


def _chain(graph: Graph, reader: Node) -> list[Node]:
    """The nodes in front of ``reader`` that can be done again, last first."""
    relu = _maker(graph, reader, Relu)
    if relu is None:
        concat = _maker(graph, reader, Concat)
        return [] if concat is None else [concat]
    norm = _maker(graph, relu, BatchNorm, Normalize)
    if norm is None or norm.origin != relu.origin:
        return []  # to redo the ReLU alone, its input would have to be kept
    if isinstance(norm.op, BatchNorm) and len(norm.inputs) > 1:
        return []  # units know no masks
    concat = _maker(graph, norm, Concat)
    # One that the block makes is its result: it is there whether it is read again or not.
    its_own = concat is not None and concat.origin == norm.origin
    return [relu, norm, concat] if concat is not None and its_own else [relu, norm]


def _maker(graph: Graph, reader: Node, *kinds: type[Op]) -> Node | None:
    """The node that writes what ``reader`` reads, if it is of these kinds and has no other."""
    value = reader.inputs[0]
    node = graph.producers[value]
    alone = len(graph.consumers[value]) == 1 and value not in graph.outputs
    return node if alone and isinstance(node.op, kinds) else None
