"""Builds an op graph node by node; types and parameter shapes come from the ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cliquegraph.errors import Diagnostic, SpecError
from cliquegraph.ir.graph import Graph, Node, Origin, Value
from cliquegraph.ir.ops import Op, ShapeError
from cliquegraph.ir.types import Field, Param, ParamSlice, Slot, Tensor, whole_tensor
from cliquegraph.location import Location


class Builder:
    """Appends nodes. One slot has one set of parameters, however often it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Node] = []
        self._params: dict[tuple[Slot, Field], Param] = {}
        self.origin: Origin | None = None
        self.location: Location | None = None

    def add(
        self, op: Op, inputs: Sequence[Value], *, slot: Slot | None = None, hint: str = ""
    ) -> Value:
        """Append ``op``; the parameters that it reads are those of ``slot``.

        Raises:
            SpecError: the sizes can't be had; points at the section that declared them.
        """
        types = tuple(value.type for value in inputs)
        self.infer(op, inputs)
        operands: list[ParamSlice] = []
        if slot is not None:
            for field, shape in op.param_shapes(types).items():
                operands.append(self._tensor(slot, field, shape, op).whole())
        return self._append(op, inputs, operands, hint)

    def add_edges(
        self, op: Op, concat: Value, sources: Sequence[Value], slots: Sequence[Slot]
    ) -> Value:
        """Append ``op`` over a concatenation, with one kernel for each of its ``sources``."""
        self.infer(op, [concat])
        operands = []
        for source, slot in zip(sources, slots, strict=True):
            for field, shape in op.param_shapes((source.type,)).items():
                operands.append(self._tensor(slot, field, shape, op).whole())
        return self._append(op, [concat], operands, "")

    def name(self, value: Value, hint: str) -> Value:
        """Give the value that was written last its name; no node has read it yet."""
        node = self._nodes[-1]
        if node.outputs != (value,):
            raise ValueError("only the value that was written last can be named")
        named = Value(value.type, hint)
        self._nodes[-1] = replace(node, outputs=(named,))
        return named

    def infer(self, op: Op, inputs: Sequence[Value]) -> None:
        """Raise a ``SpecError`` where ``op`` can't take these inputs."""
        try:
            op.infer(tuple(value.type for value in inputs))
        except ShapeError as error:
            where = "" if self.origin is None else f"{self.origin.section}: "
            raise SpecError(Diagnostic(f"{where}{error}", self.location)) from None

    def finish(self, logits: Value, features: Sequence[Value]) -> Graph:
        """Return the graph."""
        return Graph(self._name, tuple(self._nodes), logits, tuple(features))

    def _append(
        self, op: Op, inputs: Sequence[Value], operands: Sequence[ParamSlice], hint: str
    ) -> Value:
        if self.origin is None:
            raise ValueError("set the builder's origin before adding a node")
        types = op.infer(tuple(value.type for value in inputs))
        outputs = tuple(Value(each, hint) for each in types)
        self._nodes.append(Node(op, tuple(inputs), tuple(operands), outputs, self.origin))
        return self._nodes[-1].output

    def _tensor(self, slot: Slot, field: Field, shape: tuple[int, ...], op: Op) -> Param:
        key = (slot, field)
        if key not in self._params:
            tensor = Tensor(slot, field, shape, op.fields[field])
            self._params[key] = whole_tensor(tensor, op.param_axis())
        elif self._params[key].shape != shape:
            raise ValueError(f"{slot} {field} is asked for with two shapes")
        return self._params[key]
