"""Operations that normalize maps."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.ir.op import Op, Shape, Types, map_type
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, Init, MaskType, MomentsType


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalization of each channel.

    ``momentum`` weighs the new batch in the running statistics (PyTorch's sense). The batch
    variance is biased for normalizing and unbiased in the running variance.

    In a branch that is dropped for whole batches, its mask is a second input, which multiplies
    the update of the running statistics.
    """

    mnemonic = "batch_norm"
    fields = {
        Field.SCALE: Init.ONES,
        Field.BIAS: Init.ZEROS,
        Field.MEAN: Init.ZEROS,
        Field.VAR: Init.ONES,
    }
    eps: float = 1e-5
    momentum: float = 0.1

    def infer(self, inputs: Types) -> Types:
        if any(mask != MaskType(per_image=False) for mask in inputs[1:]):
            raise ShapeError("running statistics are moved by whole batches")
        return (map_type(inputs[0]),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return dict.fromkeys(self.fields, (inputs[0].channels,))


@dataclass(frozen=True)
class Moments(Op):
    """Mean and biased variance of each channel of maps, for every ``Normalize`` of them.

    In training those of the batch, which update the running statistics as in ``BatchNorm``; in
    evaluation the running statistics.
    """

    mnemonic = "moments"
    fields = {Field.MEAN: Init.ZEROS, Field.VAR: Init.ONES}
    momentum: float = 0.1

    def infer(self, inputs: Types) -> Types:
        return (MomentsType(map_type(inputs[0]).channels),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return dict.fromkeys(self.fields, (inputs[0].channels,))


@dataclass(frozen=True)
class Normalize(Op):
    """Batch normalization by given moments; inputs: maps, then their moments in channel order."""

    mnemonic = "normalize"
    fields = {Field.SCALE: Init.ONES, Field.BIAS: Init.ZEROS}
    eps: float = 1e-5

    def infer(self, inputs: Types) -> Types:
        maps, moments = map_type(inputs[0]), inputs[1:]
        if not all(isinstance(each, MomentsType) for each in moments):
            raise ShapeError("maps are normalized by moments")
        channels = sum(each.channels for each in moments)
        if channels != maps.channels:
            raise ShapeError(f"{maps.channels} maps can't be normalized by {channels} moments")
        return (maps,)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return dict.fromkeys(self.fields, (inputs[0].channels,))


@dataclass(frozen=True)
class GroupNorm(Op):
    """Normalization by the moments of each image and group of channels, then scale and bias.

    The variance is biased.
    """

    mnemonic = "group_norm"
    fields = {Field.SCALE: Init.ONES, Field.BIAS: Init.ZEROS}
    groups: int
    eps: float = 1e-5

    def infer(self, inputs: Types) -> Types:
        maps = map_type(inputs[0])
        if maps.channels % self.groups:
            raise ShapeError(
                f"{maps.channels} channels can't be normalized in {self.groups} groups",
                "take a number of groups that divides the channels",
            )
        return (maps,)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return dict.fromkeys(self.fields, (inputs[0].channels,))


@dataclass(frozen=True)
class LocalResponse(Op):
    """x / (1 + alpha / size × Σ x²)^beta, the sum over ``size`` channels around each.

    The sum goes from size // 2 channels before to (size - 1) // 2 behind, fewer at the ends; as
    ``torch.nn.functional.local_response_norm`` with k = 1.
    """

    mnemonic = "local_response"
    size: int
    alpha: float
    beta: float

    def infer(self, inputs: Types) -> Types:
        return (map_type(inputs[0]),)


@dataclass(frozen=True)
class Affine(Op):
    """scale × x + bias for each channel: a normalization whose moments are constants."""

    mnemonic = "affine"
    fields = {Field.SCALE: Init.ONES, Field.BIAS: Init.ZEROS}

    def infer(self, inputs: Types) -> Types:
        return (map_type(inputs[0]),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return dict.fromkeys(self.fields, (inputs[0].channels,))
