"""The ops of edges, layers and boundaries, as a block declares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True)
class Norm:
    """Batch normalization, one for each layer and stage.

    Attributes:
        role: its name within the layer: ``norm``, ``mid_norm``.
        zero: its scale is initialized to 0, not 1.
    """

    role: str = "norm"
    zero: bool = False


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class GroupNorm:
    """Group normalization (Wu & He, ECCV 2018): by the moments of each image and group of channels.

    Attributes:
        groups: how many groups; it divides the channels.
        role: its name within the layer, as a ``Norm``'s.
    """

    groups: int
    role: str = "norm"


@dataclass(frozen=True)
class Bias:
    """x + a learned number for each channel; all stages share it."""

    role: str = "bias"


@dataclass(frozen=True)
class Gate:
    """x × σ(w), w one learned number; all stages share it.

    On an edge it belongs to the pair, in a layer to the layer.
    """

    role: str = "gate"


@dataclass(frozen=True)
class LocalResponse:
    """Local response normalization across channels: x / (1 + α / size × Σ x²)^β.

    The sum is over the ``size`` channels around each, fewer at the ends.
    """

    size: int
    alpha: float
    beta: float


@dataclass(frozen=True)
class MaxPool:
    """Maximum of each window, without its padding."""

    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class AvgPool:
    """Mean of each window; not padded."""

    kernel: int
    stride: int


@dataclass(frozen=True)
class Upsample:
    """Each pixel becomes factor × factor equal ones (nearest neighbor)."""

    factor: int


@dataclass(frozen=True)
class Conv:
    """Convolution, padded by half of its kernel.

    Attributes:
        kernel: size.
        filters: output channels; None for a ``depthwise`` one, which keeps those that it reads.
        role: on an edge, ``w`` is a kernel for each pair, W(i→j); any other role is one kernel of
            the layer over everything it reads. In a layer, ``v`` is the layer's kernel V(j), which
            belongs to the block and is shared by its stages; any other role belongs to the update.
        index: p from 1 where a layer has several kernels V(j): V(j, p).
        stride: 1 with ``reduce``.
        reduce: has the block's stride, in updates that read X0.
        fan_out: initialized with variance 2 / fan-out, not fan-in.
        bias: it has a bias too, beside its weight, which starts at 0.
        depthwise: one kernel for each channel.
    """

    kernel: int
    filters: int | None
    role: str = "w"
    index: int | None = None
    stride: int = 1
    reduce: bool = False
    fan_out: bool = False
    bias: bool = False
    depthwise: bool = False


@dataclass(frozen=True)
class Dropout:
    """In training, zero each element with probability ``rate``, and scale by 1 / (1 - rate)."""

    rate: float


@dataclass(frozen=True)
class DropPath:
    """Drop a branch at random (stochastic depth, Huang et al., ECCV 2016).

    Attributes:
        last: the drop rate of the network's last unit; those of the others are in proportion.
        per: one draw for the batch, or for each image. A branch that is dropped for a whole batch
            updates no running statistics; one that is dropped for some images updates them from
            the whole batch, as usual.
        scale: where the branch is scaled: in ``training`` by 1 / (1 - rate), or in ``evaluation``
            by 1 - rate.
        unit, units: its number l among the L units of the network, set by ``blocks_of``.
    """

    last: float
    per: Literal["batch", "image"] = "batch"
    scale: Literal["training", "evaluation"] = "evaluation"
    unit: int = 1
    units: int = 1

    @property
    def rate(self) -> float:
        """The probability that it is dropped: l / L of the last unit's rate."""
        return float(Fraction(str(self.last)) * self.unit / self.units)


@dataclass(frozen=True)
class Skip:
    """x ↦ branch(x) + s(x).

    s is the identity where channels and sizes agree; else a ``projection`` (1×1 convolution with
    the stride that makes sizes agree, then BN), or ``pad``: an average pool with that stride, then
    zero padding of the channels; with ``identity`` they must agree.
    """

    branch: Ops
    shortcut: Literal["projection", "pad", "identity"] = "projection"
    drop: DropPath | None = None


Op = (
    Norm
    | GroupNorm
    | Relu
    | Bias
    | Gate
    | Conv
    | LocalResponse
    | MaxPool
    | AvgPool
    | Upsample
    | Dropout
    | Skip
)
Ops = tuple[Op, ...]


def walk(ops: Ops) -> Iterator[Op]:
    """Yield ops and those nested in them, in order."""
    for op in ops:
        yield op
        if isinstance(op, Skip):
            yield from walk(op.branch)
