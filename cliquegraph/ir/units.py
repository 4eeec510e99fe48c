"""Which nodes run as one call: a normalization, its ReLU, and the reader of that."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import AvgPool, BatchNorm, Concat, Conv, Normalize, Op, Relu


@dataclass(frozen=True)
class UnitNodes:
    """The nodes of one unit; None for those that it lacks."""

    concat: Node | None
    norm: Node | None
    relu: Node | None
    pool: Node | None
    conv: Node | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of execution."""
        nodes = (self.concat, self.norm, self.relu, self.pool, self.conv)
        return tuple(node for node in nodes if node is not None)

    @property
    def recompute(self) -> bool:
        """Whether the backward pass recomputes the input of the convolution."""
        return any(node.recompute for node in self.nodes)


def units_of(graph: Graph) -> dict[Node, UnitNodes]:
    """Return the units of a graph, unused ones included, by their last node.

    A unit is a normalization by given moments, or nodes marked ``recompute``, with the nodes before
    and after it that belong to the same place and have no other reader. An average pool is one of
    them where maps lie in slabs: they are read and pooled part by part.

    Raises:
        VerificationError: such a normalization has no ReLU of its own after it.
    """

    def is_only_reader(maker: Node, reader: Node) -> bool:
        return (
            maker.origin == reader.origin
            and graph.consumers[maker.output] == (reader,)
            and maker.output not in graph.outputs
        )

    def before(node: Node, kind: type[Op]) -> Node | None:
        maker = graph.producers[node.inputs[0]]
        return maker if isinstance(maker.op, kind) and is_only_reader(maker, node) else None

    def after(node: Node, kind: type[Op]) -> Node | None:
        readers = graph.consumers.get(node.output, ())
        return next(
            (r for r in readers if isinstance(r.op, kind) and is_only_reader(node, r)), None
        )

    units = {}
    for node in (*graph.nodes, *graph.idle):
        if isinstance(node.op, Normalize) or (isinstance(node.op, BatchNorm) and node.recompute):
            relu = after(node, Relu)
            if relu is None:
                raise VerificationError(
                    f"{node.op.mnemonic} in {node.origin}: no ReLU of its own behind it"
                )
            conv = after(relu, Conv)
            if conv is not None and not is_plain(conv):
                conv = None
            in_slab = bool(graph.slabs) and isinstance(node.op, Normalize)
            pool = after(relu, AvgPool) if in_slab else None
            unit = UnitNodes(before(node, Concat), node, relu, pool, conv)
        elif (
            isinstance(node.op, Concat)
            and node.recompute
            and (conv := after(node, Conv))
            and is_plain(conv)
        ):
            unit = UnitNodes(node, None, None, None, conv)
        else:
            continue
        units[unit.nodes[-1]] = unit
    return units


def is_plain(conv: Node) -> bool:
    """Tell whether a unit can have a convolution: stride 1, over all channels, no bias."""
    op = conv.op
    return isinstance(op, Conv) and op.stride == 1 and not op.bias and not op.depthwise
