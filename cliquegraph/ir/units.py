"""Which nodes run as one call: a normalization, its ReLU, and what reads it."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import BatchNorm, Concat, Conv, Normalize, Op, Relu


@dataclass(frozen=True)
class UnitNodes:
    """The nodes of one unit; those that it has."""

    concat: Node | None
    norm: Node | None
    relu: Node | None
    conv: Node | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of execution."""
        found = (self.concat, self.norm, self.relu, self.conv)
        return tuple(node for node in found if node is not None)

    @property
    def recompute(self) -> bool:
        """Whether the backward pass redoes what the convolution reads."""
        return any(node.recompute for node in self.nodes)


def units_of(graph: Graph) -> dict[Node, UnitNodes]:
    """Return the units of a graph, idle ones too, by their last node.

    A unit is a normalization by given moments, or nodes marked ``recompute``, with what stands
    before and behind it in the same place and has no other reader.

    Raises:
        VerificationError: such a normalization has no ReLU for itself behind it.
    """

    def alone(maker: Node, reader: Node) -> bool:
        return (
            maker.origin == reader.origin
            and graph.consumers[maker.output] == (reader,)
            and maker.output not in graph.outputs
        )

    def before(node: Node, kind: type[Op]) -> Node | None:
        maker = graph.producers[node.inputs[0]]
        return maker if isinstance(maker.op, kind) and alone(maker, node) else None

    def behind(node: Node, kind: type[Op]) -> Node | None:
        readers = graph.consumers.get(node.output, ())
        return next((r for r in readers if isinstance(r.op, kind) and alone(node, r)), None)

    found = {}
    for node in (*graph.nodes, *graph.idle):
        if isinstance(node.op, Normalize) or (isinstance(node.op, BatchNorm) and node.recompute):
            relu = behind(node, Relu)
            if relu is None:
                raise VerificationError(
                    f"{node.op.mnemonic} in {node.origin}: no ReLU of its own behind it"
                )
            conv = behind(relu, Conv)
            if conv is not None and isinstance(conv.op, Conv) and conv.op.stride > 1:
                conv = None
            unit = UnitNodes(before(node, Concat), node, relu, conv)
        elif isinstance(node.op, Concat) and node.recompute and (conv := behind(node, Conv)):
            unit = UnitNodes(node, None, None, conv)
        else:
            continue
        found[unit.nodes[-1]] = unit
    return found
