"""Builds an op graph node by node; types and parameter shapes come from the ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.diagnostics.location import Location
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import is_kernel, slot_name
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.ops import Conv, Op
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import (
    Field,
    Init,
    Param,
    ParamSlice,
    Piece,
    Slot,
    Tensor,
    TensorType,
    WithBias,
    whole_tensor,
)

Span = tuple[int, int]
"""Channels [first, second)."""


@dataclass(frozen=True)
class TensorPart:
    """The part of canonical tensors that an op reads.

    Attributes:
        width: channels of the whole tensors.
        spans: which channels it reads, in order.
        number: distinguishes it from other parts of these tensors.
    """

    width: int
    spans: tuple[Span, ...]
    number: int


_DEFAULT_INIT: Mapping[Field, Init] = MappingProxyType({})


class Builder:
    """Appends nodes. A slot has one set of parameters, however many nodes read it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Node] = []
        self._params: dict[tuple[Slot, Field], Param] = {}
        self._tensors: dict[tuple[Slot, Field], Tensor] = {}
        self.origin: Origin | None = None
        self.location: Location | None = None

    def add(
        self,
        op: Op,
        inputs: Sequence[Value],
        *,
        slot: Slot | None = None,
        hint: str = "",
        init: Mapping[Field, Init] = _DEFAULT_INIT,
        part: TensorPart | None = None,
    ) -> Value:
        """Append ``op``; the parameters that it reads are those of ``slot``.

        Args:
            op: the op.
            inputs: the values that it reads.
            slot: where its parameters belong; None for an op without any.
            hint: what the paper calls the output.
            init: initializations that differ from the op's defaults.
            part: the part of the slot's tensors that the op reads, if others read the rest.

        Raises:
            SpecError: invalid shapes; points at the section that declared them.
        """
        types = self._infer(op, inputs)
        operands = [] if slot is None else self._operands(op, inputs, slot, init, part)
        return self._append(op, inputs, operands, types, hint)

    def add_edges(
        self,
        op: Op,
        concat: Value,
        sources: Sequence[Value],
        slots: Sequence[Slot],
        *,
        init: Mapping[Field, Init] = _DEFAULT_INIT,
    ) -> Value:
        """Append ``op`` over a concatenation, with one kernel for each of its ``sources``."""
        types = self._infer(op, [concat])
        pairs = zip(sources, slots, strict=True)
        operands = [
            operand
            for source, slot in pairs
            for operand in self._operands(op, [source], slot, init)
        ]
        return self._append(op, [concat], operands, types, "")

    def name(self, value: Value, hint: str) -> Value:
        """Name the value that was written last; no node has read it yet."""
        node = self._nodes[-1]
        if node.outputs != (value,):
            raise ValueError("only the value that was written last can be named")
        named = Value(value.type, hint)
        self._nodes[-1] = replace(node, outputs=(named,))
        return named

    def finish(self, logits: Value, features: Sequence[Value]) -> Graph:
        """Return the graph."""
        pieces = (piece for param in self._params.values() for piece in param.pieces)
        tensors = dict.fromkeys(piece.tensor for piece in pieces)
        return Graph(self._name, tuple(tensors), tuple(self._nodes), logits, tuple(features))

    def _infer(self, op: Op, inputs: Sequence[Value]) -> tuple[TensorType, ...]:
        """Infer the types of the outputs; a ``SpecError`` where ``op`` can't take these inputs."""
        try:
            return op.infer(tuple(value.type for value in inputs))
        except ShapeError as error:
            raise self.refusal(error) from None

    def refusal(self, error: ShapeError, location: Location | None = None) -> SpecError:
        """Return the error about invalid shapes, at a location or by default the section's."""
        where = "" if self.origin is None else f"{self.origin.section}: "
        place = location or self.location
        return SpecError(Diagnostic(Code.SIZE, f"{where}{error}", place, error.hint))

    def _append(
        self,
        op: Op,
        inputs: Sequence[Value],
        operands: Sequence[ParamSlice],
        types: tuple[TensorType, ...],
        hint: str,
    ) -> Value:
        if self.origin is None:
            raise ValueError("set the builder's origin before adding a node")
        outputs = tuple(Value(each, hint) for each in types)
        self._nodes.append(Node(op, tuple(inputs), tuple(operands), outputs, self.origin))
        return self._nodes[-1].output

    def _operands(
        self,
        op: Op,
        inputs: Sequence[Value],
        slot: Slot,
        init: Mapping[Field, Init] = _DEFAULT_INIT,
        part: TensorPart | None = None,
    ) -> list[ParamSlice]:
        shapes = op.param_shapes(tuple(value.type for value in inputs))
        starts = {**op.fields, **init}
        params = []
        for field, shape in shapes.items():
            axis = op.param_axis() if len(shape) > 1 else 0
            if part is None:
                param = whole_tensor(Tensor(slot, field, shape, starts[field]), axis)
            else:
                whole = (*shape[:axis], part.width, *shape[axis + 1 :])
                tensor = Tensor(slot, field, whole, starts[field])
                pieces = tuple(Piece(tensor, *span) for span in part.spans)
                param = Param(replace(slot, index=part.number), field, pieces, axis)
            if isinstance(op, Conv) and op.bias and field is Field.WEIGHT:
                param = WithBias(param.slot, param.field, param.pieces, param.axis)
            params.append(self._param(param, shape).whole())
        return params

    def _param(self, param: Param, shape: tuple[int, ...]) -> Param:
        """Return the parameter that represents ``param``: the first of its slot and field.

        Raises:
            SpecError: updates that share it read different widths.
        """
        shared = self._params.setdefault((param.slot, param.field), param)
        tensor = param.pieces[0].tensor
        known = self._tensors.setdefault((tensor.slot, tensor.field), tensor)
        if shared.shape != shape or shared.pieces != param.pieces or known != tensor:
            name = slot_name(tensor.slot)
            if known.shape == tensor.shape and shared.shape == shape:
                raise ValueError(f"{name} is to start in two ways, or is read in two")
            widths = f"{known.shape[shared.axis]} and {tensor.shape[shared.axis]}"
            message = f"updates that share {name} read maps of different widths by it, {widths}"
            if is_kernel(tensor.slot):
                hint = "give X0 the layer's width before the block, in the stem or the transition"
            else:
                hint = "write norms: per_stage, or let all stages read the same layers"
            raise self.refusal(ShapeError(message, hint))
        return shared
