"""What the backward pass needs of the forward pass: bytes kept for each image.

Counted for eager autograd at -O0: an op keeps its inputs or its output, and a value that
several ops keep is counted once. Parameters are not counted, nor is what the logits do not
depend on: it is freed as soon as it is computed.
"""

from __future__ import annotations

from functools import singledispatch

from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph, Node, Value
from cliquegraph.ir.types import Section

FLOAT32 = 4
_INDEX = 8  # bytes of the position that a max pool keeps for each output


def stored_bytes(graph: Graph, bytes_per_number: int = FLOAT32) -> dict[Section, int]:
    """Return the bytes kept for backward for one image, by the section that keeps them first."""
    kept: set[Value] = set()
    total = dict.fromkeys((node.origin.section for node in graph.nodes), 0)
    for node in _behind_logits(graph):
        new = [value for value in kept_values(node.op, node) if value not in kept]
        kept.update(new)
        count = sum(value.type.elements for value in new) * bytes_per_number
        count += extra_bytes(node.op, node, bytes_per_number)
        total[node.origin.section] += count
    return total


def _behind_logits(graph: Graph) -> list[Node]:
    """The nodes that the logits depend on, in the order of execution."""
    needed = {graph.logits}
    found = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            found.append(node)
    return found[::-1]


@singledispatch
def kept_values(op: ops.Op, node: Node) -> tuple[Value, ...]:
    """Return the values that the gradient of an op is computed from."""
    return ()


@kept_values.register(ops.BatchNorm)
@kept_values.register(ops.Conv)
@kept_values.register(ops.Linear)
@kept_values.register(ops.MaxPool)
@kept_values.register(ops.AvgPool)
@kept_values.register(ops.ScaleChannels)
def _(op: ops.Op, node: Node) -> tuple[Value, ...]:
    return node.inputs


@kept_values.register(ops.Relu)
@kept_values.register(ops.Sigmoid)
def _(op: ops.Op, node: Node) -> tuple[Value, ...]:
    return node.outputs


@singledispatch
def extra_bytes(op: ops.Op, node: Node, bytes_per_number: int) -> int:
    """Return the bytes that an op keeps beside values of the graph."""
    return 0


@extra_bytes.register
def _(op: ops.MaxPool, node: Node, bytes_per_number: int) -> int:
    return node.output.type.elements * _INDEX


@extra_bytes.register
def _(op: ops.Dropout, node: Node, bytes_per_number: int) -> int:
    return node.output.type.elements * bytes_per_number  # the mask
