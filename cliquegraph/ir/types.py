"""Types of values over a symbolic batch, and the tensors that a network owns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod


@dataclass(frozen=True)
class MapType:
    """Feature maps, (batch, channels, height, width)."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """Elements for one image."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True)
class VectorType:
    """One vector for each image, (batch, channels)."""

    channels: int

    @property
    def elements(self) -> int:
        """Elements for one image."""
        return self.channels

    def __str__(self) -> str:
        return f"{self.channels}"


@dataclass(frozen=True)
class MomentsType:
    """Mean and biased variance of each channel over a batch, (2, channels)."""

    channels: int

    @property
    def elements(self) -> int:
        """Elements for one image: none, moments belong to the batch."""
        return 0

    def __str__(self) -> str:
        return f"2x{self.channels}"


@dataclass(frozen=True)
class MaskType:
    """What a branch is multiplied by: one element for the batch, or one for each image."""

    per_image: bool

    @property
    def channels(self) -> int:
        """One, for all channels of the branch."""
        return 1

    @property
    def elements(self) -> int:
        """Elements for one image."""
        return int(self.per_image)

    def __str__(self) -> str:
        return "1 for each image" if self.per_image else "1"


@dataclass(frozen=True)
class WeightsType:
    """One element for each operand of a join, or for each column of the network: (count,)."""

    count: int

    @property
    def channels(self) -> int:
        """One, for all channels of an operand."""
        return 1

    @property
    def elements(self) -> int:
        """Elements for one image: none, weights belong to the batch."""
        return 0

    def __str__(self) -> str:
        return f"{self.count}"


@dataclass(frozen=True)
class StagesType:
    """One vector for each stage and image, (stages, batch, channels)."""

    stages: int
    channels: int

    @property
    def elements(self) -> int:
        """Elements for one image."""
        return self.stages * self.channels

    def __str__(self) -> str:
        return f"{self.stages}x{self.channels}"


TensorType = MapType | VectorType | MomentsType | MaskType | WeightsType | StagesType


class Part(StrEnum):
    """The parts of a network, in the order of execution; first what belongs to all of it."""

    NETWORK = "network"
    STEM = "stem"
    BLOCK = "block"
    TRANSITION = "transition"
    READOUT = "readout"
    CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Section:
    """One part of a network: the stem, block 2, the transition after block 2, ...

    ``index`` is the block's, from 1; 0 for the network itself, the stem and the classifier.
    """

    part: Part
    index: int = 0

    def __str__(self) -> str:
        return f"{self.part}{self.index}" if self.index else str(self.part)


@dataclass(frozen=True)
class Slot:
    """Where a tensor belongs: a role in a section, for a layer, stage and source if it has them.

    Names are made from slots (canonical ones in ``ir/names.py``, those of generated code in
    ``emit/names.py``) and never parsed back.
    """

    section: Section
    role: str
    layer: int | None = None
    stage: int | None = None
    source: int | None = None
    index: int | None = None
    """from 1: p of a kernel, if the layer has several; the number of an edge, if several edges of
    the layer have tensors besides their kernels; the number of a part of a tensor"""
    shared: bool = False
    """whether stages share it: it belongs to the block, or in a readout to the network"""


class Init(StrEnum):
    """Initialization of a tensor (section 4.1 of the paper)."""

    HE = "he"  # normal, variance 2 / fan-in of this kernel alone
    HE_FAN_OUT = "he_fan_out"  # normal, variance 2 / fan-out, as in ResNets
    XAVIER = "xavier"  # uniform, variance 2 / (fan-in + fan-out)
    ZEROS = "zeros"
    ONES = "ones"


class Field(StrEnum):
    """The tensors of one slot."""

    WEIGHT = "weight"
    SCALE = "scale"
    BIAS = "bias"
    MEAN = "mean"
    VAR = "var"

    @property
    def trainable(self) -> bool:
        """False for running statistics, which are observed, not learned."""
        return self not in (Field.MEAN, Field.VAR)


@dataclass(frozen=True)
class Tensor:
    """A canonical tensor: what the network owns, whatever the backend and the -O level.

    Attributes:
        slot, field: what it is; together they identify it.
        shape: OIHW for kernels, (out, in) for linear layers, (channels,) otherwise.
        init: its initialization.
    """

    slot: Slot
    field: Field
    shape: tuple[int, ...]
    init: Init

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Piece:
    """The slice [start:stop] of a canonical tensor along a parameter's axis."""

    tensor: Tensor
    start: int
    stop: int

    @property
    def extent(self) -> int:
        """Length along the parameter's axis."""
        return self.stop - self.start


def cut(pieces: Sequence[Piece], *ends: int) -> list[tuple[Piece, ...]]:
    """Return the slices [a:b], [b:c], ... of concatenated pieces, for ascending ends."""
    starts = [0, *accumulate(piece.extent for piece in pieces)]
    slices = []
    for start, stop in pairwise(ends):
        parts = []
        at = bisect_right(starts, start) - 1
        while at < len(pieces) and starts[at] < stop:
            piece, position = pieces[at], starts[at]
            first = piece.start + max(start - position, 0)
            last = min(piece.stop, piece.start + stop - position)
            if first < last:
                parts.append(Piece(piece.tensor, first, last))
            at += 1
        slices.append(tuple(parts))
    return slices


@dataclass(frozen=True, eq=False)
class Param:
    """Storage that nodes read: pieces of canonical tensors, concatenated along one axis.

    Sharing means the same ``Param`` object: parameters compare by identity, not by name or
    contents. After lowering each contains one whole tensor; the pack pass creates banks, and the
    share-moments pass running statistics that represent those of every reader.

    Attributes:
        slot, field: what the storage is for; names in generated code are derived from these.
        pieces: its contents, in order.
        axis: the axis along which the pieces are concatenated.
        mirrors: other pieces with the same values, each of the total length of ``pieces``: every
            reader of a feature has the same running statistics of it.
    """

    slot: Slot
    field: Field
    pieces: tuple[Piece, ...]
    axis: int = 0
    mirrors: tuple[tuple[Piece, ...], ...] = ()

    @cached_property
    def extent(self) -> int:
        """Length along ``axis``."""
        return sum(piece.extent for piece in self.pieces)

    @property
    def holdings(self) -> tuple[tuple[Piece, ...], ...]:
        """Everything that it represents: ``pieces``, then each of ``mirrors``."""
        return (self.pieces, *self.mirrors)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the storage, in canonical layout."""
        shape = list(self.pieces[0].tensor.shape)
        shape[self.axis] = self.extent
        return tuple(shape)

    def whole(self) -> ParamSlice:
        """Return all of it, as an operand."""
        return ParamSlice(self, 0, self.extent)


class Bank(Param):
    """All kernels of one layer, concatenated along their input channels, in visiting order.

    An update reads a slice of it; weights are never concatenated at run time.
    """


class WithBias(Param):
    """A kernel of a convolution that has a trained bias too, in a parameter of its own."""


class Biased(Param):
    """A kernel into which a normalization was folded: its convolution has a bias too."""


@dataclass(frozen=True)
class ParamSlice:
    """The slice [start:stop] of a parameter along its axis, as a node reads it."""

    param: Param
    start: int
    stop: int

    @property
    def extent(self) -> int:
        """Length along the parameter's axis."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether the node reads all of the parameter."""
        return self.start == 0 and self.stop == self.param.extent

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces of canonical tensors in the slice, cut at its ends."""
        return cut(self.param.pieces, self.start, self.stop)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the slice, in canonical layout."""
        shape = list(self.param.shape)
        shape[self.param.axis] = self.extent
        return tuple(shape)


def whole_tensor(tensor: Tensor, axis: int = 0) -> Param:
    """Return the parameter that consists of one whole canonical tensor."""
    return Param(tensor.slot, tensor.field, (Piece(tensor, 0, tensor.shape[axis]),), axis)
