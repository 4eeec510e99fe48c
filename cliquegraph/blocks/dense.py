"""``kind: dense``: each layer reads all before it, once (DenseNet, CVPR 2017)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from cliquegraph.blocks.model import (
    Block,
    Conv,
    Dropout,
    Layer,
    Norm,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Words,
)
from cliquegraph.blocks.phrases import bottleneck_note
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.schema import BlockSpec, Channels, Rate, fault, up_to


def _bottleneck_factor(value: object) -> object:
    # 0 and 1 equal false and true in Python, but a spec must not write them so.
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise fault("the factor of a dense bottleneck is at least 1; write false for none")
    if value is True:
        raise fault("give the factor of a dense bottleneck as a number; DenseNet's is 4")
    return value


class DenseBlock(BlockSpec):
    """A dense block (DenseNet, CVPR 2017): each layer reads all before it, once."""

    kind: Literal["dense"]
    """the kind of block"""
    layers: Annotated[int, up_to("MAX_LAYERS")]
    """the number of layers"""
    filters: Channels
    """k, the growth rate"""
    bottleneck: Annotated[
        Literal[False] | Annotated[int, up_to("MAX_BOTTLENECK")],
        BeforeValidator(_bottleneck_factor),
    ] = False
    """false, or f for a 1×1 convolution to f·k channels first (DenseNet-B: 4)"""
    dropout: Rate = 0.0
    """rate, after every convolution of a layer"""

    @property
    def reads(self) -> int:
        """layers × layers: an upper bound on the number of features that layers read."""
        return self.layers**2


def dense(spec: DenseBlock) -> Block:
    """Return the block that a dense block's keys declare."""
    numbers = tuple(range(1, spec.layers + 1))
    edge, layer = _ops(spec)
    everything = Output(numbers, 1, with_input=True)
    return Block(
        layers=tuple(
            Layer(tuple(Read(i, edge) for i in range(j)), spec.filters, ops=layer) for j in numbers
        ),
        schedule=Schedule(order=numbers, updates=(spec.layers,)),
        feature=everything,
        transit=everything,
        words=Words(
            kind=spec.kind,
            title=f"Dense block, {spec.layers} layers, growth rate {spec.filters}",
            size=f"{spec.layers} layers × {spec.filters} filters",
            unit="DenseLayer",
            unit_doc="One layer of a dense block",
            short=(f"bottleneck {spec.bottleneck}",) if spec.bottleneck else (),
            note=bottleneck_note(spec.layers, 3) if spec.bottleneck else None,
            step="layer",
            staged=False,
            unit_keys=tuple(
                (key, getattr(spec, key)) for key in ("filters", "bottleneck", "dropout")
            ),
            shared=f"Dense block of {spec.layers} layer{'s' * (spec.layers > 1)} (section 3)",
            paper="DenseNet: Huang et al., CVPR 2017, section 3, https://arxiv.org/abs/1608.06993",
        ),
    )


def _ops(spec: DenseBlock) -> tuple[Ops, Ops]:
    """The ops of the edges, which one kernel covers together, and those of a layer."""
    dropout: Ops = (Dropout(spec.dropout),) if spec.dropout else ()
    if not spec.bottleneck:
        return (Norm(), Relu(), Conv(3, spec.filters, role="conv")), dropout
    squeeze = Conv(1, spec.bottleneck * spec.filters, role="conv")
    spatial = Conv(3, spec.filters, role="mid_conv")
    return (
        (Norm(), Relu(), squeeze),
        (*dropout, Norm("mid_norm"), Relu(), spatial, *dropout),
    )


# ---- random blocks ------------------------------------------------------------


def _draw(rng: Random) -> Document:
    return {
        "kind": "dense",
        "layers": rng.integer(1, 3),
        "filters": rng.integer(1, 3),
        **rng.some(bottleneck=rng.one((False, 1, 2)), dropout=rng.one((0.0, 0.1, 0.5))),
    }


KIND = Kind(DenseBlock, dense, fuzzing=Fuzzing(_draw, schedule=("layers",)))
