"""``kind: residual``: each unit adds its branch to its input (He et al., CVPR 2016)."""

from __future__ import annotations

from typing import Annotated, Literal

from cliquegraph.blocks.model import (
    Block,
    Conv,
    Layer,
    Norm,
    Op,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Skip,
    Words,
)
from cliquegraph.blocks.ops import drop_path
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.ops import DropPathKeys
from cliquegraph.spec.schema import BlockSpec, Channels, Init, Kernel, up_to

EXPANSION = 4
"""The output channels of a bottleneck over those of its 3×3 convolution."""

_STOCHASTIC_DEPTH = (
    "Stochastic depth: Huang et al., ECCV 2016, section 3, https://arxiv.org/abs/1603.09382"
)


class ResidualBlock(BlockSpec):
    """A block of residual units (ResNet, CVPR 2016): each adds its branch to its input."""

    kind: Literal["residual"]
    """the kind of block"""
    layers: Annotated[int, up_to("MAX_LAYERS")]
    """the number of units"""
    filters: Channels
    """k, the channels of the 3×3 convolutions; a bottleneck writes 4·k"""
    unit: Literal["basic", "bottleneck"] = "basic"
    """two 3×3 convolutions, or 1×1, 3×3 and 1×1 to 4·k channels"""
    stride: Kernel = 1
    """stride of the first unit"""
    reduce_in: Literal["spatial", "first"] = "spatial"
    """which convolution of a bottleneck has the stride: the 3×3, or the first 1×1"""
    shortcut: Literal["projection", "pad"] = "projection"
    """where sizes differ: 1×1 convolution and BN, or average pool and zero-padded channels"""
    zero_init: bool = False
    """initialize the scale of each unit's last BN to 0, so that a unit starts as its shortcut"""
    init: Init = "fan_out"
    """He initialization by fan-out, as in the ResNets' code, or by fan-in"""
    drop_path: DropPathKeys | None = None
    """stochastic depth (Huang et al., ECCV 2016)"""

    @property
    def reads(self) -> int:
        """layers: each unit reads one value."""
        return self.layers


def residual(spec: ResidualBlock) -> Block:
    """Return the block that a residual block's keys declare: a chain of units."""
    numbers = tuple(range(1, spec.layers + 1))
    last = Output((spec.layers,), 1, alone=True)
    convolutions = _convolutions(spec)
    branch = _branch(convolutions, zero=spec.zero_init)
    unit = Skip(branch, spec.shortcut, drop_path(spec.drop_path))
    return Block(
        layers=tuple(
            Layer((Read(j - 1),), convolutions[-1].filters, ops=(unit, Relu())) for j in numbers
        ),
        schedule=Schedule(order=numbers, updates=(spec.layers,)),
        feature=last,
        transit=last,
        words=_words(spec),
        stride=spec.stride,
    )


def _convolutions(spec: ResidualBlock) -> tuple[Conv, ...]:
    sizes = [(3, 1), (3, 1)] if spec.unit == "basic" else [(1, 1), (3, 1), (1, EXPANSION)]
    spatial_first = spec.unit == "basic" or spec.reduce_in == "first"
    strided = 1 if spatial_first else 2
    return tuple(
        Conv(
            kernel,
            factor * spec.filters,
            role="v",
            index=p,
            reduce=p == strided,
            fan_out=spec.init == "fan_out",
        )
        for p, (kernel, factor) in enumerate(sizes, start=1)
    )


def _branch(convolutions: tuple[Conv, ...], *, zero: bool) -> Ops:
    """Convolutions, each followed by BN, with ReLU in between."""
    ops: list[Op] = []
    for p, convolution in enumerate(convolutions, start=1):
        is_last = p == len(convolutions)
        ops += [convolution, Norm(f"norm{p}", zero=zero and is_last)]
        ops += [] if is_last else [Relu()]
    return tuple(ops)


def _words(spec: ResidualBlock) -> Words:
    drop = spec.drop_path
    size = f"{spec.layers} unit{'s' * (spec.layers > 1)} × {spec.filters} filters"
    stride = f", stride {spec.stride}" if spec.stride > 1 else ""
    is_basic = spec.unit == "basic"
    keys = ("filters", "unit", "reduce_in", "shortcut", "zero_init", "init")
    return Words(
        kind=spec.kind,
        title=f"Residual block, {size}{stride}",
        size=size,
        unit="BasicUnit" if is_basic else "Bottleneck",
        variants=(
            ("shortcut", "ProjectionUnit" if is_basic else "ProjectionBottleneck"),
            ("pad_channels", "PaddingUnit" if is_basic else "PaddingBottleneck"),
        ),
        unit_doc="One residual unit",
        short=(f"{spec.unit}{stride}", *([f"drop-path {drop.last:g}"] if drop else [])),
        step="layer",
        staged=False,
        unit_keys=(
            *((key, getattr(spec, key)) for key in keys),
            *((f"drop_path.{key}", value) for key, value in (drop or ())),
        ),
        shared=f"Residual block of {spec.layers} unit{'s' * (spec.layers > 1)} (section 3)",
        paper="ResNet: He et al., CVPR 2016, section 3, https://arxiv.org/abs/1512.03385",
        further_papers=(_STOCHASTIC_DEPTH,) if drop else (),
    )


# ---- random blocks ------------------------------------------------------------------------------


def _draw(rng: Random) -> Document:
    return {
        "kind": "residual",
        "layers": rng.integer(1, 3),
        "filters": rng.integer(1, 3),
        **rng.some(
            0.6,
            unit=rng.one(("basic", "bottleneck")),
            stride=rng.integer(1, 2),
            reduce_in=rng.one(("spatial", "first")),
            shortcut=rng.one(("projection", "pad")),
            zero_init=rng.holds(0.7),
            init=rng.one(("fan_in", "fan_out")),
            drop_path={
                "last": rng.one((0.5, 0.25, 0.1)),
                **rng.some(
                    per=rng.one(("batch", "image")), scale=rng.one(("evaluation", "training"))
                ),
            },
        ),
    }


KIND = Kind(ResidualBlock, residual, fuzzing=Fuzzing(_draw, weight=2))
