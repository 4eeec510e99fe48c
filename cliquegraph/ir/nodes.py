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
        stage, layer: the update, for a node that belongs to one; a readout over time, its logits
            and the block feature that it reads have a stage alone.
        line: the line of the spec that declared the section, if known.
    """

    section: Section
    stage: int | None = None
    layer: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        parts = [str(self.section)]
        if self.layer is not None:
            parts.append(f"stage {self.stage} layer {self.layer}")
        elif self.stage is not None:
            parts.append(f"stage {self.stage}")
        if self.line is not None:
            parts.append(f"line {self.line}")
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor over a symbolic batch, written once.

    ``hint`` is the paper's name for it (``x2_1`` for X2 of stage 1); the printer makes it unique.
    Values compare by identity, never by hint.
    """

    type: TensorType
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation at one place.

    With ``recompute`` its outputs are not saved for backward: the backward pass recomputes them.
    """

    op: Op
    inputs: tuple[Value, ...]
    operands: tuple[ParamSlice, ...]
    outputs: tuple[Value, ...]
    origin: Origin
    recompute: bool = False

    @property
    def output(self) -> Value:
        """The output of a node with a single one."""
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
