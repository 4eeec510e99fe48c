"""Operations that are random in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cliquegraph.ir.op import Op, Types, map_type
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import MaskType, WeightsType


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


@dataclass(frozen=True)
class DrawColumn(Op):
    """Draw the column that the whole network keeps in a batch, as a one-hot vector.

    In training, with probability ``rate``, one column uniformly; otherwise, and in evaluation, no
    column: zeros. Its input are the images.
    """

    mnemonic = "draw_column"
    rate: float
    columns: int

    def infer(self, inputs: Types) -> Types:
        map_type(inputs[0])
        return (WeightsType(self.columns),)


@dataclass(frozen=True)
class JoinWeights(Op):
    """Draw the weights of the ``count`` operands of a join: 1 / m for each of m that are kept.

    In training each is dropped, with weight 0, with probability ``rate``; if all are, one drawn
    uniformly is kept. In evaluation all are kept. The inputs are the first operand and, if the
    operands have ``columns``, from 1, what ``DrawColumn`` drew: in training, if that is a column,
    its operands are kept, or all if none belongs to it.
    """

    mnemonic = "join_weights"
    rates = ("rate",)
    rate: float
    count: int
    columns: tuple[int, ...] = ()

    def infer(self, inputs: Types) -> Types:
        map_type(inputs[0])
        if self.columns and len(self.columns) != self.count:
            raise ShapeError(f"{len(self.columns)} columns of {self.count} operands")
        drawn = [each.count for each in inputs[1:] if isinstance(each, WeightsType)]
        if len(inputs) != len(drawn) + 1 or len(drawn) != bool(self.columns):
            raise ShapeError("operands with columns read the column that is drawn, others do not")
        if drawn and max(self.columns) > drawn[0]:
            raise ShapeError(f"there is no column {max(self.columns)} of {drawn[0]}")
        return (WeightsType(self.count),)


@dataclass(frozen=True)
class WeightedMean(Op):
    """The sum of maps of one type, each times its weight; the last input is the weights."""

    mnemonic = "weighted_mean"

    def infer(self, inputs: Types) -> Types:
        *maps, weights = inputs
        first = map_type(maps[0]) if maps else None
        if first is None or weights != WeightsType(len(maps)):
            raise ShapeError(f"{len(maps)} maps need as many weights")
        if different := [value for value in maps if value != first]:
            raise ShapeError(f"maps of {first} and of {different[0]} can't be averaged")
        return (first,)
