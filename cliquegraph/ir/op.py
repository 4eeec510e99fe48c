"""The base class of operations.

An op is a frozen dataclass of its attributes. Its methods take the types of its inputs: ``infer``
returns the types of its outputs (or raises ``ShapeError``), ``param_shapes`` the shapes of the
tensors it reads, ``macs`` the multiply–accumulates for one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, Init, MapType, TensorType

Shape = tuple[int, ...]
Types = tuple[TensorType, ...]


@dataclass(frozen=True)
class Op:
    """Base of every operation."""

    mnemonic: ClassVar[str]
    fields: ClassVar[dict[Field, Init]] = {}
    """the tensors that the op reads, in the order of its operands, with their initializations"""
    widths: ClassVar[tuple[str, ...]] = ()
    """the attributes that are channel counts: generated classes may take them as arguments"""
    rates: ClassVar[tuple[str, ...]] = ()
    """the attributes that vary between units as widths do: classes may take them as well"""

    def infer(self, inputs: Types) -> Types:
        """Return the types of the outputs."""
        raise NotImplementedError  # abstract; each op below has its own

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        """Return the shape of each field, in canonical layout."""
        return {}

    def param_axis(self) -> int:
        """Return the axis along which the op's parameters may be cut into pieces."""
        return 0

    def macs(self, inputs: Types) -> int:
        """Return the multiply–accumulates for one image, of convolutions and linear layers."""
        return 0


def map_type(value: TensorType) -> MapType:
    """Return the type of an input, which must be maps."""
    if not isinstance(value, MapType):
        raise ShapeError("maps are needed here, not a vector")
    return value
