"""``kind: clique``: every two layers connected both ways, updated in stages (section 3.1)."""

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
from cliquegraph.blocks.phrases import bottleneck_note, stage_numeral
from cliquegraph.spec.schema import CliqueBlock


def clique(spec: CliqueBlock) -> Block:
    """Return the block that a clique's keys declare."""
    numbers = range(1, spec.layers + 1)
    edge, layer = _ops(spec)
    return Block(
        layers=tuple(
            Layer(
                reads=tuple(Read(i, edge) for i in (0, *numbers) if i != j),
                filters=spec.filters,
                ops=layer,
            )
            for j in numbers
        ),
        schedule=Schedule(
            order=spec.visiting_order,
            updates=tuple(spec.updates_in(stage) for stage in range(1, spec.stages + 1)),
            simultaneous=spec.update == "simultaneous",
        ),
        feature=Output(tuple(numbers), spec.feature_stage, with_input=True),
        transit=Output(tuple(numbers), spec.transit_stage),
        words=_words(spec),
        norms="per_stage" if spec.norm_per_stage else "second",
    )


def _ops(spec: CliqueBlock) -> tuple[Ops, Ops]:
    """What stands on an edge, and in a layer; with a bottleneck W(i→j) is 1×1 (section 3.3)."""
    kernel = 1 if spec.bottleneck else spec.kernel
    dropout: Ops = (Dropout(spec.dropout),) if spec.dropout else ()
    edge: Ops = (Conv(kernel, spec.filters),)
    layer: Ops = dropout
    if spec.bottleneck:
        spatial = Conv(spec.kernel, spec.filters, role="v")
        layer = (*dropout, Norm("mid_norm"), Relu(), spatial, *dropout)
    if spec.unit == "pre_activation":
        return (Norm(), Relu(), *edge), layer
    return edge, (*layer, Norm(), Relu())


def _words(spec: CliqueBlock) -> Words:
    stages = "1 stage" if spec.stages == 1 else f"{spec.stages} stages of {spec.update} updates"
    visits = "" if spec.order == "ascending" else f", visited as {list(spec.visiting_order)}"
    size = f"{spec.layers} layers × {spec.filters} filters"
    keys = ("filters", "kernel", "unit", "bottleneck", "dropout", "norm_per_stage")
    return Words(
        kind=spec.kind,
        title=f"Clique, {size}{visits}, {stages}",
        size=size,
        unit="Update",
        unit_doc="One update (Table 1)",
        short=_short(spec),
        note=_note(spec),
        steps_comment="updatej_s: writes Xj in stage s",
        unit_keys=tuple((key, getattr(spec, key)) for key in keys),
    )


def _short(spec: CliqueBlock) -> tuple[str, ...]:
    """Stages, and where what leaves is not of the last."""
    stages = f"{spec.stages} stage{'s' * (spec.stages > 1)}{', bottleneck' * spec.bottleneck}"
    feature, transit = spec.feature_stage, spec.transit_stage
    if (feature, transit) == (spec.stages, spec.stages):
        return (stages,)
    return (
        stages,
        f"feature of stage {stage_numeral(feature)}",
        f"transit of stage {stage_numeral(transit)}",
    )


def _note(spec: CliqueBlock) -> str | None:
    return bottleneck_note(spec.layers, spec.kernel) if spec.bottleneck else None
