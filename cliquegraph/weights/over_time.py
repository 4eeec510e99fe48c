"""Whether two networks with readouts over time differ in nothing but the number of stages."""

from __future__ import annotations

from collections.abc import Hashable

from cliquegraph.compiler import Compilation
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.ops import Stack
from cliquegraph.spec.network import NetworkSpec


def continues(one: NetworkSpec, other: NetworkSpec) -> bool:
    """Tell whether one network is the other with more stages, on the same tensors.

    So it is where stages share all normalizations: weights do not depend on how many there are.
    """
    if not (one.readout.over_time and other.readout.over_time):
        return False
    numbers: dict[Hashable, int] = {}
    left, right = (_logits(Compilation(each).lowered, numbers) for each in (one, other))
    shapes = [
        {(tensor_name(tensor), tensor.shape) for tensor in Compilation(each).lowered.tensors}
        for each in (one, other)
    ]
    count = min(len(left), len(right))
    return shapes[0] == shapes[1] and left[:count] == right[:count]


def _logits(graph: Graph, numbers: dict[Hashable, int]) -> list[int]:
    """The numbers of the logits of each stage; equal ones are the same function of the tensors."""
    numbered: dict[Value, int] = {}
    for node in graph.nodes:
        tensors = tuple(
            (tensor_name(piece.tensor), piece.start, piece.stop)
            for operand in node.operands
            for piece in operand.pieces
        )
        key = (type(node.op), node.op, tuple(numbered[value] for value in node.inputs), tensors)
        numbered |= {
            value: numbers.setdefault((key, position), len(numbers))
            for position, value in enumerate(node.outputs)
        }
    head = graph.producers[graph.logits]
    return [numbered[value] for value in head.inputs] if isinstance(head.op, Stack) else []
