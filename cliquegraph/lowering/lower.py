"""Lowers a network's step graph to its op graph (section 3.4)."""

from __future__ import annotations

from dataclasses import replace

from cliquegraph.blocks.boundaries import readout_ops, stem_of, transition_of
from cliquegraph.blocks.model import GroupNorm, Norm, Ops, Output, walk
from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.ir.builder import Builder
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Origin, Value
from cliquegraph.ir.ops import (
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    DrawColumn,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    Input,
    Linear,
    MaxPool,
    Mean,
    Relu,
    ScaleChannels,
    Sigmoid,
    Stack,
)
from cliquegraph.ir.shapes import ShapeError, compressed, least_factor, squeezed
from cliquegraph.ir.types import MapType, Part, Section, Slot
from cliquegraph.ir.verify import verify_graph
from cliquegraph.lowering.apply import OpLowering, Site
from cliquegraph.lowering.update import lower_step
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.graph import BlockSteps, Feature, Step, StepGraph

Stage = int | None
"""The stage of a readout; None for the only one."""


def lower(steps: StepGraph) -> Graph:
    """Lower a step graph: each update applies edge ops, combines the results, applies layer ops.

    Args:
        steps: the step graph, ``cliquegraph.unroll(network)``.

    Raises:
        SpecError: invalid shapes, such as a map pooled to nothing; with their location.

    >>> import cliquegraph
    >>> graph = cliquegraph.lower(cliquegraph.unroll(cliquegraph.load("specs/quickstart.yaml")))
    >>> graph.logits.type
    VectorType(channels=10)
    """
    require_type(steps, StepGraph, "cliquegraph.unroll(network)")
    network = steps.network
    builder = Builder(network.name)
    images = _input(builder, network)
    column = _column(builder, steps, images)
    value = _stem(builder, network, images)
    features: list[Value] = []
    readings: dict[Stage, list[Value]] = {None: features}
    for block in steps.blocks:
        by_stage, transit = _block(builder, network, block, value, column)
        features.append([*by_stage.values()][-1])
        if block is not steps.blocks[-1]:
            assert transit is not None  # noqa: S101  # only the last block lacks one
            value = transit
            value = _transition(builder, network, block.index, transit)
    if network.readout.over_time:
        readings = {stage: [feature] for stage, feature in by_stage.items()}
    elif network.readout.blocks == "last":
        readings = {None: features[-1:]}
    graph = builder.finish(_head(builder, network, readings), features)
    verify_graph(graph)
    return graph


def _enter(builder: Builder, network: NetworkSpec, section: Section, *path: str | int) -> None:
    """Set the origin of the next nodes: the section, and its line in the spec."""
    whole = network.locate()
    builder.location = network.locate(*path)
    if builder.location == whole and section.index:  # a default: point at its block
        builder.location = network.locate("blocks", section.index - 1)
    line = builder.location.line if builder.location else None
    builder.origin = Origin(section, line=line)


def _input(builder: Builder, network: NetworkSpec) -> Value:
    _enter(builder, network, Section(Part.STEM), "stem")
    images = network.input
    return builder.add(Input(images.channels, images.height, images.width), [], hint="x")


def _column(builder: Builder, steps: StepGraph, images: Value) -> Value | None:
    """The column that the network keeps in a batch; None where no join drops all others."""
    drops = [
        drop
        for block in steps.blocks
        for layer in block.declared.layers
        if (drop := layer.join_drop) is not None and drop.global_
    ]
    if not drops:
        return None
    _enter(builder, steps.network, Section(Part.NETWORK), "blocks")
    columns = max(column for drop in drops for column in drop.columns if column is not None)
    return builder.add(DrawColumn(drops[0].global_, columns), [images], hint="column")


def _stem(builder: Builder, network: NetworkSpec, images: Value) -> Value:
    section = Section(Part.STEM)
    _enter(builder, network, section, "stem")
    return OpLowering(builder).run(stem_of(network), images, Site(section))


def _block(
    builder: Builder, network: NetworkSpec, block: BlockSteps, x0: Value, column: Value | None
) -> tuple[dict[Stage, Value], Value | None]:
    """Return the block feature, of each stage that is read, and the transit if a block follows."""
    section = Section(Part.BLOCK, block.index)
    _enter(builder, network, section, "blocks", block.index - 1)
    home = builder.origin
    assert home is not None  # noqa: S101  # just entered
    values: dict[Feature, Value] = {Feature(block.index, 0, 0): x0}
    for step in block.steps:
        builder.origin = Origin(section, step.stage, step.layer, home.line)
        reads = [values[feature] for feature in step.reads]
        newest = {feature.layer: value for feature, value in values.items()}
        lowering = OpLowering(builder, column=column)
        value = lower_step(block.declared, section, step, reads, newest, lowering)
        _require_one_type(builder, step, newest.get(step.layer), value)
        values[step.writes] = value
    builder.origin = home
    by_stage: dict[Stage, Value] = {}
    for stage, read in _readings(block).items():
        builder.origin = replace(home, stage=stage)
        features = [values[each] for each in read]
        by_stage[stage] = _output(builder, block.declared.feature, features, "feature")
    builder.origin = home
    if block.index == len(network.blocks):
        return by_stage, None
    if block.has_one_output:
        return by_stage, by_stage[None]
    transit = [values[each] for each in block.transit]
    return by_stage, _output(builder, block.declared.transit, transit, "transit")


def _readings(block: BlockSteps) -> dict[Stage, tuple[Feature, ...]]:
    """The block feature, or that of each stage; the last is the block feature."""
    if not block.readings:
        return {None: block.feature}
    return {reading.stage: reading.features for reading in block.readings}


def _require_one_type(builder: Builder, step: Step, before: Value | None, value: Value) -> None:
    """Raise a ``SpecError`` if a layer has another width or size than in the stage before."""
    if before is not None and before.type != value.type:
        stages = f"{before.type} in stage {step.stage - 1} and {value.type} in stage {step.stage}"
        hint = "let a layer have one width and one size in all stages"
        raise builder.refusal(ShapeError(f"X{step.layer} is {stages}", hint))


def _require_output(
    builder: Builder, output: Output, first: tuple[int, Value], other: tuple[int, Value]
) -> None:
    """Raise a ``SpecError`` that names the layers if an output can't combine them."""
    one, two = first[1].type, other[1].type
    sizes_only = output.combine == "concat"
    assert isinstance(one, MapType) and isinstance(two, MapType)  # noqa: S101  # blocks have maps
    if (one.height, one.width) != (two.height, two.width) or (not sizes_only and one != two):
        message = f"an output is of X{first[0]}, {one}, and X{other[0]}, {two}"
        hint = "let it be of layers of one size" + ("" if sizes_only else " and width")
        raise builder.refusal(ShapeError(message, hint))


def _output(builder: Builder, output: Output, values: list[Value], hint: str) -> Value:
    """Return an output of a block: the maps of one layer as they are, else combined."""
    if output.alone:
        return values[0]
    layers = (0, *output.layers) if output.with_input else output.layers
    for layer, value in zip(layers, values, strict=True):
        _require_output(builder, output, (layers[0], values[0]), (layer, value))
    if output.combine == "mean":
        return builder.add(Mean(len(values)), values, hint=hint) if len(values) > 1 else values[0]
    return builder.add(Concat(), values, hint=hint)


def _transition(builder: Builder, network: NetworkSpec, index: int, value: Value) -> Value:
    """The boundary after a block."""
    section, spec = Section(Part.TRANSITION, index), transition_of(network, index)
    _enter(builder, network, section, "transition")
    if isinstance(spec, tuple):
        return OpLowering(builder).run(spec, value, Site(section))
    channels = _compressed(builder, network, "transition", value, spec.compression)
    value = _norm_relu(builder, value, Slot(section, "norm"))
    value = builder.add(Conv(channels, 1), [value], slot=Slot(section, "conv"))
    value = _dropout(builder, value, spec.dropout)
    if spec.attention:
        if not squeezed(value.type.channels):
            hint = "leave the attention out, or let more channels through"
            error = ShapeError("half of 1 channel, for the attention, is none", hint)
            raise builder.refusal(error, network.locate("transition", "attention"))
        value = _attention(builder, section, value)
    pool = MaxPool if spec.pool == "max" else AvgPool
    return builder.add(pool(2, 2), [value])


def _attention(builder: Builder, section: Section, value: Value) -> Value:
    """Channel-wise attention (Figure 4): scale each map by an element in [0, 1]."""
    channels = value.type.channels
    gate = builder.add(GlobalAvgPool(), [value])
    fc1, fc2 = Slot(section, "attention.fc1"), Slot(section, "attention.fc2")
    gate = builder.add(Relu(), [builder.add(Linear(squeezed(channels)), [gate], slot=fc1)])
    gate = builder.add(Sigmoid(), [builder.add(Linear(channels), [gate], slot=fc2)])
    return builder.add(ScaleChannels(), [value, gate])


def _head(builder: Builder, network: NetworkSpec, readings: dict[Stage, list[Value]]) -> Value:
    """The readouts of what is read in each stage, then the classifier."""
    last = len(network.blocks)
    vectors = {
        stage: [
            _readout(builder, network, index, stage, value)
            for index, value in enumerate(values, start=last - len(values) + 1)
        ]
        for stage, values in readings.items()
    }
    section = Section(Part.CLASSIFIER)
    _enter(builder, network, section, "classifier")
    home = builder.origin
    assert home is not None  # noqa: S101  # just entered
    logits = []
    for stage, each in vectors.items():
        builder.origin = replace(home, stage=stage)
        value = each[0] if len(each) == 1 else builder.add(Concat(), each, hint="pooled")
        head = Linear(network.classifier.classes)
        logits.append(builder.add(head, [value], slot=Slot(section, ""), hint="logits"))
    builder.origin = home
    return builder.add(Stack(), logits, hint="logits") if len(logits) > 1 else logits[0]


def _readout(
    builder: Builder, network: NetworkSpec, index: int, stage: Stage, value: Value
) -> Value:
    """From a block feature to a vector; stages have normalizations of their own, or none has."""
    section, spec = Section(Part.READOUT, index), network.readout
    _enter(builder, network, section, "readout")
    assert builder.origin is not None  # noqa: S101  # just entered
    builder.origin = replace(builder.origin, stage=stage)
    own = stage if spec.is_staged else None
    pool = GlobalMaxPool() if spec.pool == "max" else GlobalAvgPool()
    if (given := readout_ops(network)) is not None:
        site = Site(section, stage=own, staged=own is not None and _normalizes(given))
        value = OpLowering(builder).run(given, value, site)
        return builder.add(pool, [value], hint="pooled")
    if spec.compression is not None:
        channels = _compressed(builder, network, "readout", value, spec.compression)
        value = _norm_relu(builder, value, Slot(section, "compress.norm", stage=own))
        kernel = Slot(section, "compress.conv", shared=own is not None)
        value = builder.add(Conv(channels, 1), [value], slot=kernel)
        value = _dropout(builder, value, spec.dropout)
    if spec.norm:
        value = _norm_relu(builder, value, Slot(section, "norm", stage=own))
    return builder.add(pool, [value], hint="pooled")


def _normalizes(given: Ops) -> bool:
    return any(isinstance(op, Norm | GroupNorm) for op in walk(given))


def _compressed(
    builder: Builder, network: NetworkSpec, key: str, value: Value, factor: float
) -> int:
    """Return how many channels a compression leaves; raise a ``SpecError`` if none."""
    channels = value.type.channels
    if left := compressed(channels, factor):
        return left
    hint = f"a compression of {least_factor(channels)} leaves one"
    error = ShapeError(f"a compression of {factor:g} leaves none of {channels} channels", hint)
    raise builder.refusal(error, network.locate(key, "compression"))


def _norm_relu(builder: Builder, value: Value, slot: Slot) -> Value:
    return builder.add(Relu(), [builder.add(BatchNorm(), [value], slot=slot)])


def _dropout(builder: Builder, value: Value, rate: float) -> Value:
    return builder.add(Dropout(rate), [value]) if rate else value
