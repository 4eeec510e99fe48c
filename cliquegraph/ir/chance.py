"""Operations that are random in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliquegraph.ir.op import Op, Types, map_type
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import MaskType


@dataclass(frozen=True)
class Dropout(Op):
    """In training, zero each element with probability ``rate``, and scale by 1 / (1 - rate)."""

    mnemonic = "dropout"
    rate: float

    def infer(self, inputs: Types) -> Types:
        return (inputs[0],)


@dataclass(frozen=True)
class Keep(Op):
    """Draw the mask of a branch: 0 (dropped) with probability ``rate``, else 1.

    Its input is what the branch reads: one draw for the batch, or one for each image.
    """

    mnemonic = "keep"
    rates = ("rate",)
    rate: float
    per_image: bool

    def infer(self, inputs: Types) -> Types:
        map_type(inputs[0])
        return (MaskType(self.per_image),)


@dataclass(frozen=True)
class DropPath(Op):
    """Drop a branch: the inputs are its maps, then the mask that ``Keep`` drew.

    In training maps × mask, with ``scale="training"`` also / (1 - rate). In evaluation the maps,
    with ``scale="evaluation"`` also × (1 - rate).
    """

    mnemonic = "drop_path"
    rates = ("rate",)
    rate: float
    scale: Literal["training", "evaluation"]

    def infer(self, inputs: Types) -> Types:
        if not isinstance(inputs[1], MaskType):
            raise ShapeError("a branch is dropped by a mask")
        return (map_type(inputs[0]),)
