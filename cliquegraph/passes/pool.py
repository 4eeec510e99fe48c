"""Pool before what does not mix pixels: a 1×1 convolution, or channel-wise attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import AvgPool, Conv, GlobalAvgPool, GlobalMean, ScaleChannels
from cliquegraph.passes.rewrite import rewrite


@dataclass(frozen=True)
class PoolFirst:
    """Move average pools forward: for 2×2, a quarter of the pixels is left to convolve.

    The mean of a window commutes with an affine map of each pixel's channels, whatever the window,
    its stride and the size of the maps.

    1. ``avg_pool(scale_channels(x, z))`` becomes ``scale_channels(avg_pool(x), z)``.
    2. ``avg_pool(conv(x))`` becomes ``conv(avg_pool(x))`` for a 1×1 convolution of stride 1.
    3. Where attention reads ``global_avg_pool(conv(x))`` too, that becomes
       ``global_avg_pool(conv(global_mean(x)))``, not the mean of the pooled maps: windows leave out
       a last row or column of odd maps.

    Nothing moves where something else reads the maps between, or the network returns them: a pool
    stays behind dropout and normalizations.
    """

    name = "pool first"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with pools first."""
        while movable := _movable(graph):
            graph = _move(graph, movable)
        return graph


def _movable(graph: Graph) -> dict[Value, Node]:
    """The nodes that an average pool can move before, by their output."""
    return {
        node.output: node
        for node in graph.nodes
        if _is_affine(node) and node.output not in graph.outputs and _is_only_pooled(graph, node)
    }


def _is_affine(node: Node) -> bool:
    """Whether a node maps the channels of each pixel, affinely and all pixels alike."""
    op = node.op
    if isinstance(op, Conv):
        return (op.kernel, op.stride) == (1, 1)
    return isinstance(op, ScaleChannels)


def _is_only_pooled(graph: Graph, node: Node) -> bool:
    """Whether an average pool of the same place reads a node, and only means of maps besides."""
    readers = graph.consumers.get(node.output, ())
    pools = [reader for reader in readers if isinstance(reader.op, AvgPool)]
    means = GlobalAvgPool if isinstance(node.op, Conv) else ()
    return (
        len(pools) == 1
        and all(reader in pools or isinstance(reader.op, means) for reader in readers)
        and all(reader.origin == node.origin for reader in readers)
    )


def _move(graph: Graph, movable: dict[Value, Node]) -> Graph:
    """Return the graph with each of these nodes after the pool that reads it."""
    current: dict[Value, Node] = {}
    means: dict[Value, Value] = {}

    def nodes_for(node: Node) -> Iterator[Node]:
        if node.output in movable:
            current[node.output] = node
            if len(graph.consumers[node.output]) > 1:
                mean, convolved = _of_mean(node)
                means[node.output] = convolved.output
                yield from (mean, convolved)
            return
        mapped = current.get(node.inputs[0]) if node.inputs else None
        if mapped is None:
            yield node
        elif isinstance(node.op, GlobalAvgPool):
            yield replace(node, inputs=(means[mapped.output],))
        else:
            yield from _exchange(mapped, node)

    return rewrite(graph, nodes_for)


def _of_mean(conv: Node) -> tuple[Node, Node]:
    """The mean of each input map of a convolution, and its convolution."""
    (maps,) = conv.inputs
    (mean_type,) = GlobalMean().infer((maps.type,))
    mean = Value(mean_type)
    (output_type,) = conv.op.infer((mean_type,))
    node = Node(GlobalMean(), (maps,), (), (mean,), conv.origin)
    return node, replace(conv, inputs=(mean,), outputs=(Value(output_type),))


def _exchange(mapped: Node, pool: Node) -> tuple[Node, Node]:
    """The pool of a node's maps, then the node."""
    maps, *rest = mapped.inputs
    (pooled_type,) = pool.op.infer((maps.type,))
    pooled = Value(pooled_type)
    return (
        replace(pool, inputs=(maps,), outputs=(pooled,)),
        replace(mapped, inputs=(pooled, *rest), outputs=pool.outputs),
    )
