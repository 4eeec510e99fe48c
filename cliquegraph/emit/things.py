"""What the classes of a file hold: layers, kernels, and instances of each other."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.emit.dims import Dim


@dataclass(frozen=True)
class Norm:
    """A batch normalization of so many channels."""

    channels: Dim
    eps: float
    momentum: float


@dataclass(frozen=True)
class ZeroNorm(Norm):
    """One whose scale starts at 0: a residual unit starts as its shortcut."""


@dataclass(frozen=True)
class BranchNorm(Norm):
    """One in a branch: where whole batches leave that out, running statistics stay."""


@dataclass(frozen=True)
class ZeroBranchNorm(BranchNorm):
    """One whose scale starts at 0."""


@dataclass(frozen=True)
class Normalizer:
    """Scale and bias of a normalization of so many channels by given moments."""

    channels: Dim
    eps: float


@dataclass(frozen=True)
class Statistics:
    """Moments of so many channels, and their running statistics."""

    channels: Dim
    momentum: float


@dataclass(frozen=True)
class ChannelAffine:
    """Scale and bias of so many channels."""

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
    """One that starts with variance 2 / fan-out, as in ResNets."""


@dataclass(frozen=True)
class BiasedKernel:
    """A convolution with a kernel and a bias of its own; a pass made both of trained weights."""

    channels: Dim
    filters: Dim
    size: int
    stride: Dim
    padding: int


@dataclass(frozen=True)
class SharedKernel:
    """A kernel that the stages of a block share; steps are handed it."""

    channels: Dim
    filters: Dim
    size: int


@dataclass(frozen=True)
class KernelBank:
    """Such kernels of one layer, one for each source, concatenated along input channels."""

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
    """Draws one for each image."""


@dataclass(frozen=True)
class Child:
    """An instance of another class of the file, with its constructor's arguments.

    ``strides`` are given by name, where they aren't 1.
    """

    class_name: str
    arguments: tuple[Dim, ...]
    strides: tuple[tuple[str, Dim], ...] = ()

    @property
    def written(self) -> tuple[str, ...]:
        """The arguments as they stand in a call."""
        strides = (f"{name}={value}" for name, value in self.strides if value != 1)
        return (*map(str, self.arguments), *strides)


Thing = (
    Norm
    | ZeroNorm
    | BranchNorm
    | ZeroBranchNorm
    | Normalizer
    | Statistics
    | ChannelAffine
    | Kernel
    | FanOutKernel
    | BiasedKernel
    | SharedKernel
    | KernelBank
    | Dense
    | Drop
    | BranchDrop
    | ImageBranchDrop
    | Child
)


@dataclass(frozen=True)
class Member:
    """What a class holds under a name, with a comment behind it if there is something to say."""

    name: str
    thing: Thing
    comment: str | None = None


@dataclass(frozen=True)
class MemberGroup:
    """Members that belong together, under a comment if there is something to say."""

    comment: str | None
    members: tuple[Member, ...]
