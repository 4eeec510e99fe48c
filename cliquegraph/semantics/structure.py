"""Whether two op graphs have the same structure, apart from widths and sizes of images.

Every op treats the channels of one feature alike; group norms and local responses read those around
each, by groups, which shrink with widths, or windows, which do not. So two graphs of the same
structure compute the same function of their features, at different widths, as long as no piece of a
tensor and no slice of a parameter begins or ends within a feature.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import accumulate, pairwise

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat, Conv, Gate, GroupNorm, Input, Op, PadChannels
from cliquegraph.ir.types import Field, Param, Piece, Tensor

_WIDTHS: dict[type[Op], tuple[str, ...]] = {PadChannels: ("channels",), GroupNorm: ("groups",)}
"""Attributes that differ with widths, of ops that have the width of what they read."""

_INPUTS = 1
"""The axis of a parameter along the input channels of an op; other axes are along its outputs."""


def same_structure(one: Graph, other: Graph) -> bool:
    """Tell whether two graphs differ only in widths and sizes of images.

    Both have the same ops on the same values and parameters, from the same places; pieces of
    tensors and slices cover the same features, in the same order.
    """
    left, right = _Structure(one), _Structure(other)
    return left.aligned and right.aligned and left.description == right.description


class _Structure:
    """A description of a graph without widths.

    Attributes:
        aligned: whether every piece and slice begins and ends at a feature's boundary.
        description: the description.
    """

    def __init__(self, graph: Graph) -> None:
        self.aligned = True
        self._values: dict[Value, int] = {}
        self._params: dict[Param, int] = {}
        self._ends: dict[Value, tuple[int, ...]] = {}  # where the features of a value end
        self._pieces: dict[Tensor, dict[tuple[int, int], None]] = {}
        nodes = [self._node(node) for node in (*graph.nodes, *graph.idle)]
        self.description = (
            nodes,
            len(graph.nodes),
            [self._values[value] for value in graph.outputs],
            [(tensor.slot, tensor.field, self._order(tensor)) for tensor in graph.tensors],
        )

    def _node(self, node: Node) -> object:
        op, origin = node.op, node.origin
        widths = _WIDTHS.get(type(op), op.widths)
        attributes = [each.name for each in fields(op) if each.name not in widths]
        inputs = [self._values[value] for value in node.inputs]
        for value in node.outputs:
            self._values[value] = len(self._values)
            self._ends[value] = self._features(node, value)
        return (
            type(op),
            None if isinstance(op, Input) else [getattr(op, name) for name in attributes],
            (origin.section, origin.stage, origin.layer),
            node.recompute,
            inputs,
            [self._param(operand.param) for operand in node.operands],
            [self._layout(node, field) for field in op.fields],
        )

    def _features(self, node: Node, value: Value) -> tuple[int, ...]:
        if isinstance(node.op, Concat):
            ends = [(0, *self._ends[each]) for each in node.inputs]
            widths = [b - a for each in ends for a, b in pairwise(each)]
            return tuple(accumulate(widths))
        if isinstance(node.op, PadChannels):
            return (*self._ends[node.inputs[0]], value.type.channels)
        if node.inputs and (not node.op.widths or _is_depthwise(node)):
            return self._ends[node.inputs[0]]
        return (value.type.channels,)

    def _param(self, param: Param) -> object:
        number = self._params.setdefault(param, len(self._params))
        return number, type(param), param.slot, param.field, param.axis, len(param.mirrors)

    def _layout(self, node: Node, field: Field) -> object:
        """Which pieces of which tensors cover which features."""
        operands = [each for each in node.operands if each.param.field is field]
        if not operands:
            return None
        over = node.inputs if operands[0].param.axis == _INPUTS else node.outputs
        if isinstance(node.op, Gate) or (over is node.inputs and _is_depthwise(node)):
            ends = {1: 0}  # one number for all channels, or a kernel for each
        else:
            ends = {end: number for number, end in enumerate(self._ends[over[0]])}
        holdings = [[piece for operand in operands for piece in operand.pieces]]
        holdings += [list(mirror) for operand in operands for mirror in operand.param.mirrors]
        return [self._along(pieces, ends) for pieces in holdings]

    def _along(self, pieces: list[Piece], ends: dict[int, int]) -> object:
        layout = []
        for piece, end in zip(pieces, accumulate(each.extent for each in pieces), strict=True):
            self.aligned &= end in ends
            self._pieces.setdefault(piece.tensor, {})[piece.start, piece.stop] = None
            layout.append((piece.tensor.slot, piece.tensor.field, ends.get(end)))
        return layout

    def _order(self, tensor: Tensor) -> list[int]:
        """The order in which pieces of a tensor first occur, as positions in the tensor."""
        pieces = list(self._pieces.get(tensor, ()))
        return sorted(range(len(pieces)), key=pieces.__getitem__)


def _is_depthwise(node: Node) -> bool:
    return isinstance(node.op, Conv) and node.op.depthwise
