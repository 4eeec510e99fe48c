"""The rules of the op graph, checked after the lowering and after every pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from itertools import pairwise

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import operand_name, param_name, tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Input, Moments
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, MapType, Param, Slot, Tensor


def verify_graph(graph: Graph) -> None:
    """Check a graph.

    1. The first node is the only input; every value is written once, before it is read.
    2. Types are those that the ops infer; operands have the shapes that the ops require.
    3. Parameters hold every tensor of the network, each part of it once, and nothing else.
    4. One slot has one tensor: nothing is shared by name alone.
    5. What the network returns is written.
    6. A value lies in one slab at most, beside maps of its size, and has moments.

    Raises:
        VerificationError: a rule is violated; names the node.
    """
    written: set[Value] = set()
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, Input) != (index == 0):
            raise _broken(node, "the input must be the first node, and the only one")
        for value in node.inputs:
            if value not in written:
                raise _broken(node, f"reads {value.hint or 'a value'} before it is written")
        _check_types(node)
        _check_operands(node)
        for value in node.outputs:
            if value in written:
                raise _broken(node, f"writes {value.hint or 'a value'} a second time")
            written.add(value)
    for value in graph.outputs:
        if value not in written:
            raise VerificationError(f"{graph.name}: an output is never written")
    _check_storage(graph)
    _check_slabs(graph, written)


def _check_types(node: Node) -> None:
    try:
        inferred = node.op.infer(node.input_types)
    except ShapeError as error:
        raise _broken(node, str(error)) from None
    declared = tuple(value.type for value in node.outputs)
    if inferred != declared:
        types = [", ".join(map(str, each)) for each in (declared, inferred)]
        raise _broken(node, f"has type {types[0]}, but computes {types[1]}")


def _check_operands(node: Node) -> None:
    needed = node.op.param_shapes(node.input_types)
    for field, shape in needed.items():
        operands = [operand for operand in node.operands if operand.param.field == field]
        if not operands:
            raise _broken(node, f"lacks its {field}")
        axis = operands[0].param.axis
        joined = list(operands[0].shape)
        joined[axis] = sum(operand.extent for operand in operands)
        for operand in operands:
            if (
                _without_axis(operand.shape, axis) != _without_axis(shape, axis)
                or operand.param.axis != axis
            ):
                raise _broken(node, f"can't join {operand_name(operand)} of shape {operand.shape}")
            if not 0 <= operand.start < operand.stop <= operand.param.extent:
                raise _broken(node, f"reads {operand_name(operand)}, beyond its end")
        if tuple(joined) != shape:
            raise _broken(node, f"has a {field} of shape {tuple(joined)}, but needs {shape}")
    for operand in node.operands:
        if operand.param.field not in needed:
            raise _broken(node, f"does not read {operand_name(operand)}")


def _without_axis(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_storage(graph: Graph) -> None:
    held: dict[Tensor, list[tuple[int, int, Param]]] = defaultdict(list)
    for param in graph.params:
        for mirror in param.mirrors:
            if sum(piece.extent for piece in mirror) != param.extent:
                raise VerificationError(f"{param_name(param)} mirrors tensors of another length")
        for piece in (piece for pieces in param.holdings for piece in pieces):
            if not 0 <= piece.start < piece.stop <= piece.tensor.shape[param.axis]:
                raise VerificationError(
                    f"{param_name(param)} holds a part of {tensor_name(piece.tensor)} "
                    "that does not exist"
                )
            held[piece.tensor].append((piece.start, piece.stop, param))
    for tensor, ranges in held.items():
        ranges.sort(key=lambda part: part[:2])
        for (_, stop, _), (start, _, param) in pairwise(ranges):
            if start < stop:
                raise VerificationError(
                    f"{tensor_name(tensor)} is held twice, the second time by {param_name(param)}"
                )
        axis = ranges[0][2].axis
        if sum(stop - start for start, stop, _ in ranges) != tensor.shape[axis]:
            raise VerificationError(f"a part of {tensor_name(tensor)} is held by no parameter")
    lost = set(graph.tensors) - held.keys()
    if lost:
        raise VerificationError(f"{', '.join(sorted(map(tensor_name, lost)))}: held by nothing")
    unknown = held.keys() - set(graph.tensors)
    if unknown:
        names = ", ".join(sorted(map(tensor_name, unknown)))
        raise VerificationError(f"{names}: held, but no tensor of the network")
    slots: dict[tuple[Slot, Field], Tensor] = {}
    for tensor in graph.tensors:
        if slots.setdefault((tensor.slot, tensor.field), tensor) != tensor:
            raise VerificationError(f"{tensor_name(tensor)} names two tensors")


def _check_slabs(graph: Graph, written: Collection[Value]) -> None:
    placed: set[Value] = set()
    with_moments = {node.inputs[0] for node in graph.nodes if isinstance(node.op, Moments)}
    for slab in graph.slabs:
        sizes = {(v.type.height, v.type.width) for v in slab.values if isinstance(v.type, MapType)}
        for value in slab.values:
            name = value.hint or "a value"
            if value not in written:
                raise VerificationError(f"{graph.name}: {name} lies in a slab, but is not written")
            if value in placed:
                raise VerificationError(f"{graph.name}: {name} lies in two places of slabs")
            if value not in with_moments:
                raise VerificationError(f"{graph.name}: {name} lies in a slab without its moments")
            placed.add(value)
        if len(sizes) != 1:
            raise VerificationError(f"{graph.name}: a slab has maps of {len(sizes)} sizes")


def _broken(node: Node, message: str) -> VerificationError:
    return VerificationError(f"{node.op.mnemonic} in {node.origin}: {message}")
