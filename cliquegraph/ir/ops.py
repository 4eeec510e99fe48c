"""The operations. Shapes, counts, paddings and parameter shapes are computed only here.

Normalizations are in ``ir/norms.py``, pools and others that change sizes in ``ir/windows.py``,
random operations in ``ir/chance.py``. ``semantics/interpret.py`` defines what ops compute.
"""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.ir.chance import DrawColumn as DrawColumn
from cliquegraph.ir.chance import Dropout as Dropout
from cliquegraph.ir.chance import DropPath as DropPath
from cliquegraph.ir.chance import JoinWeights as JoinWeights
from cliquegraph.ir.chance import Keep as Keep
from cliquegraph.ir.chance import WeightedMean as WeightedMean
from cliquegraph.ir.norms import Affine as Affine
from cliquegraph.ir.norms import BatchNorm as BatchNorm
from cliquegraph.ir.norms import GroupNorm as GroupNorm
from cliquegraph.ir.norms import LocalResponse as LocalResponse
from cliquegraph.ir.norms import Moments as Moments
from cliquegraph.ir.norms import Normalize as Normalize
from cliquegraph.ir.op import Op as Op
from cliquegraph.ir.op import Shape as Shape
from cliquegraph.ir.op import Types as Types
from cliquegraph.ir.op import map_type
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import (
    Field,
    Init,
    MapType,
    MaskType,
    MomentsType,
    StagesType,
    VectorType,
    WeightsType,
)
from cliquegraph.ir.windows import AvgPool as AvgPool
from cliquegraph.ir.windows import GlobalAvgPool as GlobalAvgPool
from cliquegraph.ir.windows import GlobalMaxPool as GlobalMaxPool
from cliquegraph.ir.windows import GlobalMean as GlobalMean
from cliquegraph.ir.windows import MaxPool as MaxPool
from cliquegraph.ir.windows import Upsample as Upsample
from cliquegraph.ir.windows import Zeros as Zeros
from cliquegraph.ir.windows import windows


@dataclass(frozen=True)
class Input(Op):
    """A batch of images."""

    mnemonic = "input"
    channels: int
    height: int
    width: int

    def infer(self, inputs: Types) -> Types:
        return (MapType(self.channels, self.height, self.width),)


@dataclass(frozen=True)
class Concat(Op):
    """The concatenation of values along their channels."""

    mnemonic = "concat"

    def infer(self, inputs: Types) -> Types:
        channels = sum(value.channels for value in inputs)
        first = inputs[0]
        if isinstance(first, MomentsType):
            raise ShapeError("moments are no maps: each is read by itself")
        if isinstance(first, VectorType):
            if not all(isinstance(value, VectorType) for value in inputs):
                raise ShapeError("a vector can't be concatenated with maps")
            return (VectorType(channels),)
        if isinstance(first, MaskType | WeightsType | StagesType) or any(
            not isinstance(value, MapType)
            or (value.height, value.width) != (first.height, first.width)
            for value in inputs
        ):
            raise ShapeError("maps of different sizes can't be concatenated")
        return (MapType(channels, first.height, first.width),)


@dataclass(frozen=True)
class Stack(Op):
    """Vectors of one type along a new first axis: the logits of each stage."""

    mnemonic = "stack"

    def infer(self, inputs: Types) -> Types:
        first = inputs[0]
        if not isinstance(first, VectorType) or any(value != first for value in inputs):
            raise ShapeError("vectors of one length can be stacked, nothing else")
        return (StagesType(len(inputs), first.channels),)


@dataclass(frozen=True)
class Add(Op):
    """The sum of maps of one type."""

    mnemonic = "add"

    def infer(self, inputs: Types) -> Types:
        first = map_type(inputs[0])
        if different := [value for value in inputs if value != first]:
            raise ShapeError(f"maps of {first} and of {different[0]} can't be added")
        return (first,)


@dataclass(frozen=True)
class Mean(Add):
    """The sum of maps of one type, divided by ``count``.

    ``count`` may exceed the number of inputs, which can be sums over several edges already.
    """

    mnemonic = "mean"
    count: int


@dataclass(frozen=True)
class PadChannels(Op):
    """Maps, padded with zero maps to ``channels``."""

    mnemonic = "pad_channels"
    channels: int

    def infer(self, inputs: Types) -> Types:
        value = map_type(inputs[0])
        if value.channels > self.channels:
            raise ShapeError(f"{value.channels} maps can't be padded to {self.channels}")
        return (MapType(self.channels, value.height, value.width),)


@dataclass(frozen=True)
class Bias(Op):
    """x + one number for each channel."""

    mnemonic = "bias"
    fields = {Field.BIAS: Init.ZEROS}

    def infer(self, inputs: Types) -> Types:
        return (map_type(inputs[0]),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return {Field.BIAS: (inputs[0].channels,)}


@dataclass(frozen=True)
class Gate(Op):
    """x × σ(w) for one number w, which starts at 0."""

    mnemonic = "gate"
    fields = {Field.WEIGHT: Init.ZEROS}

    def infer(self, inputs: Types) -> Types:
        return (map_type(inputs[0]),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return {Field.WEIGHT: (1,)}


@dataclass(frozen=True)
class Relu(Op):
    """max(x, 0)."""

    mnemonic = "relu"

    def infer(self, inputs: Types) -> Types:
        return (inputs[0],)


@dataclass(frozen=True)
class Sigmoid(Op):
    """1 / (1 + exp(-x))."""

    mnemonic = "sigmoid"

    def infer(self, inputs: Types) -> Types:
        return (inputs[0],)


@dataclass(frozen=True)
class Conv(Op):
    """Convolution, padded by half of its kernel.

    Its operands are one or more kernels, concatenated along the input channels: the sum over the
    edges of Eq. (1) is one convolution of the concatenation. A ``depthwise`` one has one kernel for
    each channel.
    """

    mnemonic = "conv"
    fields = {Field.WEIGHT: Init.HE, Field.BIAS: Init.ZEROS}
    widths = ("filters",)
    filters: int
    kernel: int
    stride: int = 1
    bias: bool = False
    depthwise: bool = False

    @property
    def padding(self) -> int:
        """Zeros around the map."""
        return (self.kernel - 1) // 2

    def _read(self, inputs: Types) -> int:
        """How many channels each output channel reads."""
        return 1 if self.depthwise else inputs[0].channels

    def infer(self, inputs: Types) -> Types:
        if self.filters < 1:
            raise ShapeError("a convolution is left with no channels")
        if self.depthwise and self.filters != inputs[0].channels:
            raise ShapeError(
                f"a depthwise convolution keeps its {inputs[0].channels} channels, "
                f"and can't write {self.filters}"
            )
        return (windows(map_type(inputs[0]), self.kernel, self.stride, self.padding, self.filters),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        weight = (self.filters, self._read(inputs), self.kernel, self.kernel)
        bias = {Field.BIAS: (self.filters,)} if self.bias else {}
        return {Field.WEIGHT: weight, **bias}

    def param_axis(self) -> int:
        return 1

    def macs(self, inputs: Types) -> int:
        (output,) = self.infer(inputs)
        return output.elements * self._read(inputs) * self.kernel**2


@dataclass(frozen=True)
class Linear(Op):
    """A fully connected layer with bias."""

    mnemonic = "linear"
    fields = {Field.WEIGHT: Init.XAVIER, Field.BIAS: Init.ZEROS}
    widths = ("features",)
    features: int

    def infer(self, inputs: Types) -> Types:
        if not isinstance(inputs[0], VectorType):
            raise ShapeError("a linear layer takes a vector")
        if self.features < 1:
            raise ShapeError("a linear layer is left with no outputs")
        return (VectorType(self.features),)

    def param_shapes(self, inputs: Types) -> dict[Field, Shape]:
        return {
            Field.WEIGHT: (self.features, inputs[0].channels),
            Field.BIAS: (self.features,),
        }

    def macs(self, inputs: Types) -> int:
        return self.features * inputs[0].channels


@dataclass(frozen=True)
class ScaleChannels(Op):
    """Multiply each map by one element; inputs: maps, then a vector (Figure 4)."""

    mnemonic = "scale_channels"

    def infer(self, inputs: Types) -> Types:
        maps, vector = map_type(inputs[0]), inputs[1]
        if vector != VectorType(maps.channels):
            raise ShapeError(f"{maps.channels} maps can't be scaled by a vector of {vector}")
        return (maps,)


OPS: tuple[type[Op], ...] = (
    Input,
    Concat,
    Stack,
    Add,
    Mean,
    PadChannels,
    BatchNorm,
    Moments,
    Normalize,
    GroupNorm,
    Affine,
    Bias,
    Gate,
    LocalResponse,
    Relu,
    Sigmoid,
    Dropout,
    Keep,
    DropPath,
    DrawColumn,
    JoinWeights,
    WeightedMean,
    Conv,
    Linear,
    MaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMean,
    GlobalMaxPool,
    Upsample,
    Zeros,
    ScaleChannels,
)
"""Every op. The interpreter and each backend handle all of them; a test walks this table."""

FILLS: tuple[type[Op], ...] = (PadChannels, Zeros)
"""The ops that write zeros, as many channels as they say."""
