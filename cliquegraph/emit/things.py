"""The members of generated classes: layers, kernels, and instances of other classes."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.emit.dims import Dim


@dataclass(frozen=True)
class Norm:
    """A batch normalization."""

    channels: Dim
    eps: float
    momentum: float


@dataclass(frozen=True)
class ZeroNorm(Norm):
    """A batch normalization whose scale starts at 0: a residual unit starts as its shortcut."""


@dataclass(frozen=True)
class BranchNorm(Norm):
    """A batch normalization whose running statistics do not move where its branch is dropped."""


@dataclass(frozen=True)
class ZeroBranchNorm(BranchNorm):
    """A ``BranchNorm`` whose scale starts at 0."""


@dataclass(frozen=True)
class Normalizer:
    """Scale and bias of a normalization by given moments."""

    channels: Dim
    eps: float


@dataclass(frozen=True)
class Statistics:
    """Moments of channels, with running statistics."""

    channels: Dim
    momentum: float


@dataclass(frozen=True)
class GroupNormalizer:
    """A group normalization."""

    channels: Dim
    groups: int
    eps: float


@dataclass(frozen=True)
class ChannelBias:
    """A bias for each channel, which starts at 0; an array by itself."""

    channels: Dim


@dataclass(frozen=True)
class ScalarGate:
    """The number of a gate, which starts at 0; an array of one element by itself."""


@dataclass(frozen=True)
class ChannelAffine:
    """Scale and bias of channels."""

    channels: Dim


@dataclass(frozen=True)
class Kernel:
    """A convolution with a kernel of its own."""

    channels: Dim
    filters: Dim
    size: int
    stride: Dim
    padding: int


@dataclass(frozen=True)
class FanOutKernel(Kernel):
    """A convolution initialized with variance 2 / fan-out, as in ResNets."""


@dataclass(frozen=True)
class DepthwiseKernel:
    """A convolution with a kernel of its own for each channel.

    With ``bias`` and ``fan_out``, as in ``KernelWithBias``.
    """

    channels: Dim
    size: int
    stride: Dim
    padding: int
    bias: bool = False
    fan_out: bool = False


@dataclass(frozen=True)
class KernelWithBias(Kernel):
    """A convolution with a kernel and a bias of its own, both trained; the bias starts at 0.

    With ``fan_out``, the kernel starts as a ``FanOutKernel``.
    """

    fan_out: bool = False


@dataclass(frozen=True)
class BiasedKernel:
    """A convolution with a kernel and a bias, both folded from trained weights."""

    channels: Dim
    filters: Dim
    size: int
    stride: Dim
    padding: int


@dataclass(frozen=True)
class SharedKernel:
    """A kernel that the stages of a block share; it is an argument of updates."""

    channels: Dim
    filters: Dim
    size: int


@dataclass(frozen=True)
class KernelBank:
    """The kernels of one layer, one for each source, concatenated along input channels."""

    sources: tuple[Dim, ...]
    filters: Dim
    size: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with bias."""

    inputs: Dim
    outputs: Dim


@dataclass(frozen=True)
class Drop:
    """Dropout."""

    rate: float


@dataclass(frozen=True)
class BranchDrop:
    """Draws the mask of a branch, for a whole batch."""

    rate: Dim


@dataclass(frozen=True)
class ImageBranchDrop(BranchDrop):
    """Draws the mask of a branch, for each image."""


@dataclass(frozen=True)
class ColumnDraw:
    """Draws the column that the whole network keeps in a batch."""

    rate: float
    columns: int


@dataclass(frozen=True)
class JoinDrop:
    """Draws the weights of the operands of a join."""

    rate: Dim
    count: int


@dataclass(frozen=True)
class ColumnJoinDrop:
    """Draws the weights of the operands of a join, given the column that the network keeps."""

    rate: Dim
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Child:
    """An instance of another class of the file, with its constructor's arguments.

    ``strides`` are passed by name, unless they are 1.
    """

    class_name: str
    arguments: tuple[Dim, ...]
    strides: tuple[tuple[str, Dim], ...] = ()

    @property
    def written(self) -> tuple[str, ...]:
        """The arguments as they are printed in a call."""
        strides = (f"{name}={value}" for name, value in self.strides if value != 1)
        return (*map(str, self.arguments), *strides)


Thing = (
    Norm
    | ZeroNorm
    | BranchNorm
    | ZeroBranchNorm
    | Normalizer
    | Statistics
    | GroupNormalizer
    | ChannelBias
    | ScalarGate
    | ChannelAffine
    | Kernel
    | FanOutKernel
    | KernelWithBias
    | DepthwiseKernel
    | BiasedKernel
    | SharedKernel
    | KernelBank
    | Dense
    | Drop
    | BranchDrop
    | ImageBranchDrop
    | ColumnDraw
    | JoinDrop
    | ColumnJoinDrop
    | Child
)


@dataclass(frozen=True)
class Member:
    """A member of a class, with an optional comment after it."""

    name: str
    thing: Thing
    comment: str | None = None


@dataclass(frozen=True)
class MemberGroup:
    """Members that belong together, under an optional comment."""

    comment: str | None
    members: tuple[Member, ...]
