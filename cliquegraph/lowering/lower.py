"""Lowers a network's step graph to its op graph (section 3.4)."""

from __future__ import annotations

from cliquegraph.blocks.boundaries import readout_ops, stem_of, transition_of
from cliquegraph.blocks.model import Output
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
)
from cliquegraph.ir.shapes import ShapeError, compressed, least_factor, squeezed
from cliquegraph.ir.types import Part, Section, Slot
from cliquegraph.ir.verify import verify_graph
from cliquegraph.lowering.apply import OpLowering, Site
from cliquegraph.lowering.update import lower_step
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.graph import BlockSteps, Feature, Step, StepGraph


def lower(steps: StepGraph) -> Graph:
    """Lower a step graph, literally: each unit concatenates, normalizes and convolves.

    Raises:
        SpecError: invalid shapes, such as a map pooled to nothing; with their location.

    >>> import cliquegraph
    >>> graph = cliquegraph.lower(cliquegraph.unroll(cliquegraph.load("specs/quickstart.yaml")))
    >>> graph.logits.type
    VectorType(channels=10)
    """
    network = steps.network
    builder = Builder(network.name)
    images = _input(builder, network)
    column = _column(builder, steps, images)
    value = _stem(builder, network, images)
    features = []
    for block in steps.blocks:
        feature, transit = _block(builder, network, block, value, column)
        features.append(feature)
        if block is not steps.blocks[-1]:
            assert transit is not None  # noqa: S101  # only the last block lacks one
            value = transit
            value = _transition(builder, network, block.index, transit)
    graph = builder.finish(_head(builder, network, features), features)
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
) -> tuple[Value, Value | None]:
    """Return the block feature and, unless no block follows, the transit."""
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
    features = [values[each] for each in block.feature]
    feature = _output(builder, block.declared.feature, features, "feature")
    if block.index == len(network.blocks):
        return feature, None
    if block.has_one_output:
        return feature, feature
    transit = [values[each] for each in block.transit]
    return feature, _output(builder, block.declared.transit, transit, "transit")


def _require_one_type(builder: Builder, step: Step, before: Value | None, value: Value) -> None:
    """Raise a ``SpecError`` if a layer has another width or size than in the stage before."""
    if before is not None and before.type != value.type:
        stages = f"{before.type} in stage {step.stage - 1} and {value.type} in stage {step.stage}"
        hint = "let a layer have one width and one size in all stages"
        raise builder.refusal(ShapeError(f"X{step.layer} is {stages}", hint))


def _output(builder: Builder, output: Output, values: list[Value], hint: str) -> Value:
    """Return an output of a block: the maps of one layer as they are, else combined."""
    if output.alone:
        return values[0]
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


def _head(builder: Builder, network: NetworkSpec, features: list[Value]) -> Value:
    """The readouts of the blocks that are read, then the classifier."""
    first = 0 if network.readout.blocks == "all" else len(features) - 1
    vectors = [
        _readout(builder, network, index, feature)
        for index, feature in enumerate(features[first:], start=first + 1)
    ]
    section = Section(Part.CLASSIFIER)
    _enter(builder, network, section, "classifier")
    value = vectors[0] if len(vectors) == 1 else builder.add(Concat(), vectors, hint="pooled")
    head = Linear(network.classifier.classes)
    return builder.add(head, [value], slot=Slot(section, ""), hint="logits")


def _readout(builder: Builder, network: NetworkSpec, index: int, value: Value) -> Value:
    section, spec = Section(Part.READOUT, index), network.readout
    _enter(builder, network, section, "readout")
    pool = GlobalMaxPool() if spec.pool == "max" else GlobalAvgPool()
    if (given := readout_ops(network)) is not None:
        value = OpLowering(builder).run(given, value, Site(section))
        return builder.add(pool, [value], hint="pooled")
    if spec.compression is not None:
        channels = _compressed(builder, network, "readout", value, spec.compression)
        value = _norm_relu(builder, value, Slot(section, "compress.norm"))
        value = builder.add(Conv(channels, 1), [value], slot=Slot(section, "compress.conv"))
        value = _dropout(builder, value, spec.dropout)
    if spec.norm:
        value = _norm_relu(builder, value, Slot(section, "norm"))
    return builder.add(pool, [value], hint="pooled")


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
