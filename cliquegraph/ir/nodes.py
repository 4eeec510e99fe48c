"""Values, and the nodes that write and read them."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.ir.ops import Op
from cliquegraph.ir.types import ParamSlice, Section, TensorType


@dataclass(frozen=True)
class Origin:
    """What a node was lowered from.

    Attributes:
        section: the part of the network.
        stage, layer: the update, for a node that belongs to one.
        line: line of the spec that declared the section, if known.
    """

    section: Section
    stage: int | None = None
    layer: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        parts = [str(self.section)]
        if self.layer is not None:
            parts.append(f"stage {self.stage} layer {self.layer}")
        if self.line is not None:
            parts.append(f"line {self.line}")
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor over a symbolic batch, written once.

    ``hint`` is what the paper calls it (``x2_1`` for X2 of stage 1); whoever prints the graph
    makes it unique. A value is identified by the object, never by its hint.
    """

    type: TensorType
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation at one place.

    ``recompute`` where the backward pass is to do it again and nothing it writes is kept.
    """

    op: Op
    inputs: tuple[Value, ...]
    operands: tuple[ParamSlice, ...]
    outputs: tuple[Value, ...]
    origin: Origin
    recompute: bool = False

    @property
    def output(self) -> Value:
        """The output of a node that has one."""
        (value,) = self.outputs
        return value

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        """The types of the inputs."""
        return tuple(value.type for value in self.inputs)

    @property
    def macs(self) -> int:
        """Multiply–accumulates for one image."""
        return self.op.macs(self.input_types)
