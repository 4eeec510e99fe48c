"""``kind: dense``: each layer reads all before it, once (DenseNet, CVPR 2017)."""

from __future__ import annotations

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
from cliquegraph.spec.schema import DenseBlock


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
        ),
    )


def _ops(spec: DenseBlock) -> tuple[Ops, Ops]:
    """What stands on the edges, with one kernel over all of them, and in a layer."""
    dropout: Ops = (Dropout(spec.dropout),) if spec.dropout else ()
    if not spec.bottleneck:
        return (Norm(), Relu(), Conv(3, spec.filters, role="conv")), dropout
    squeeze = Conv(1, spec.bottleneck * spec.filters, role="conv")
    spatial = Conv(3, spec.filters, role="mid_conv")
    return (
        (Norm(), Relu(), squeeze),
        (*dropout, Norm("mid_norm"), Relu(), spatial, *dropout),
    )
