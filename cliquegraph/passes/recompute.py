"""Recompute cheap results in the backward pass instead of saving them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import (
    AvgPool,
    BatchNorm,
    Concat,
    GlobalAvgPool,
    GlobalMean,
    Normalize,
    Op,
    Relu,
)
from cliquegraph.ir.units import is_plain

_MEANS = (AvgPool, GlobalAvgPool, GlobalMean)
"""Ops whose gradient needs the shape of the maps that they read, and nothing else."""


@dataclass(frozen=True)
class Recompute:
    """Save only features for backward, not their concatenations and normalizations.

    1. A chain concatenation–normalization–ReLU, or its last two, that one convolution or only
       average pools read is marked: the backward pass recomputes it from the features and their
       moments. No convolution is recomputed, and average pools need no maps for their gradients.
       Inputs of a convolution with a stride, or of a ``BatchNorm`` with a mask, are still saved.
    2. A concatenation that a convolution or an average pool reads directly (post-activation) is
       marked too.

    Unused nodes are marked like live ones: equal updates share a class in generated code, whether
    they are called or only retained for their parameters.
    """

    name = "recompute"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with marks."""
        marked: set[Node] = set()
        for node in (*graph.nodes, *graph.idle):
            if isinstance(node.op, _MEANS) or is_plain(node):
                marked.update(_chain(graph, node))

        def mark(nodes: Iterable[Node]) -> tuple[Node, ...]:
            return tuple(replace(n, recompute=True) if n in marked else n for n in nodes)

        return replace(graph, nodes=mark(graph.nodes), idle=mark(graph.idle))


def _chain(graph: Graph, reader: Node) -> list[Node]:
    """The nodes before ``reader`` that can be recomputed, last first."""
    relu = _maker(graph, reader, Relu)
    if relu is None:
        concat = _maker(graph, reader, Concat)
        if concat is None or (isinstance(reader.op, AvgPool) and concat.origin != reader.origin):
            return []
        return [concat]
    norm = _maker(graph, relu, BatchNorm, Normalize)
    if relu.origin != reader.origin:
        return []  # another update wrote it
    if norm is None or norm.origin != relu.origin:
        return []  # to recompute the ReLU alone, its input would have to be saved
    if isinstance(norm.op, BatchNorm) and len(norm.inputs) > 1:
        return []  # units have no masks
    concat = _maker(graph, norm, Concat)
    # A concatenation of the block is its result, which exists anyway.
    is_own = concat is not None and concat.origin == norm.origin
    return [relu, norm, concat] if concat is not None and is_own else [relu, norm]


def _maker(graph: Graph, reader: Node, *kinds: type[Op]) -> Node | None:
    """The node that writes the input of ``reader``, if of one of these kinds.

    None where others read it as well, unless all are means at the same place.
    """
    value = reader.inputs[0]
    node, readers = graph.producers[value], graph.consumers[value]
    is_unsaved = len(readers) == 1 or all(
        isinstance(each.op, _MEANS) and each.origin == reader.origin for each in readers
    )
    is_internal = is_unsaved and value not in graph.outputs
    return node if is_internal and isinstance(node.op, kinds) else None
