"""The network: stem, blocks, transitions, readouts, classifier, with their figures (Figure 2)."""

from __future__ import annotations

from cliquegraph.analysis.cost import NetworkCost
from cliquegraph.blocks.boundaries import readout_ops, stem_of, transition_of
from cliquegraph.blocks.model import (
    AvgPool,
    Bias,
    Conv,
    Gate,
    GroupNorm,
    LocalResponse,
    MaxPool,
    Norm,
    Op,
    Ops,
    Relu,
    Skip,
    Upsample,
    walk,
)
from cliquegraph.draw.scene import Arrow, Look, Scene, Shape, Stroke, text_size
from cliquegraph.emit.words import engineering
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.types import MapType, Part, Section, TensorType
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.graph import StepGraph


def network_scene(steps: StepGraph, graph: Graph, cost: NetworkCost) -> Scene:
    """Draw a network; Graphviz lays it out with the data flow from left to right.

    Args:
        steps: its step graph.
        graph: its lowered op graph.
        cost: its cost.
    """
    network = steps.network
    shapes = [_image(network)]
    shapes += [_part(steps, graph, cost, section) for section in cost.sections]
    title = (
        f"{network.name}: {cost.total.parameters:,} parameters, {engineering(cost.total.macs)} MACs"
    )
    readouts = [section for section in cost.sections if section.part is Part.READOUT]
    ranks = tuple((str(Section(Part.BLOCK, each.index)), str(each)) for each in readouts)
    return Scene("network", title, tuple(shapes), _arrows(cost), placed=False, ranks=ranks)


def _image(network: NetworkSpec) -> Shape:
    size = network.input
    label = f"images\n{size.channels}×{size.height}×{size.width}"
    return Shape("images", label, Look.INPUT, size=text_size(label, 11), line="main")


def _part(steps: StepGraph, graph: Graph, cost: NetworkCost, section: Section) -> Shape:
    figures = cost.sections[section]
    output = _output(graph, section)
    words = _words(steps, section)
    lines = [
        str(section),
        *words,
        # The classifier's channels are its classes.
        *(output if section.part is not Part.CLASSIFIER else ()),
        f"{figures.parameters:,} parameters",
        f"{engineering(figures.macs)} MACs",
    ]
    data = {
        "section": str(section),
        "part": section.part.value,
        **({"block": section.index} if section.index else {}),
        "output": ", ".join(output),
        "parameters": figures.parameters,
        "macs": figures.macs,
        "description": ", ".join(words),
    }
    line = "" if section.part is Part.READOUT else "main"
    label = "\n".join(lines)
    return Shape(
        str(section), label, Look.PART, size=text_size(label, 11), data=dict(data), line=line
    )


def _output(graph: Graph, section: Section) -> list[str]:
    """The output shape of a section; a block's outputs are its feature and its transit."""
    if section.part is not Part.BLOCK:
        own = [node for node in graph.nodes if node.origin.section == section]
        return [_shown(own[-1].output.type)]
    readers: dict[str, list[str]] = {}
    for name, reader in (("feature", Part.READOUT), ("transit", Part.TRANSITION)):
        for node in graph.nodes:
            if node.origin.section == Section(reader, section.index):
                readers.setdefault(_shown(node.input_types[0]), []).append(name)
                break
    if not readers:  # the next block reads it directly
        return [_shown(graph.features[section.index - 1].type)]
    return [f"{' and '.join(names)} {shape}" for shape, names in readers.items()]


def _shown(output: TensorType) -> str:
    if isinstance(output, MapType):
        return f"{output.channels}×{output.height}×{output.width}"
    return f"{output.channels} channels"


def _words(steps: StepGraph, section: Section) -> list[str]:
    """A section's declaration in short lines, since the picture is many boxes wide."""
    network = steps.network
    match section.part:
        case Part.NETWORK:
            return []
        case Part.STEM:
            return _ops_words(stem_of(network))
        case Part.BLOCK:
            block = steps.block(section.index).declared.words
            return [block.kind, block.size, *block.short]
        case Part.TRANSITION:
            transition = transition_of(network, section.index)
            if isinstance(transition, tuple):
                return _ops_words(transition)
            attention = ["attention"] if transition.attention else []
            return ["1×1 convolution", ", ".join([*attention, f"{transition.pool} pool"])]
        case Part.READOUT:
            words = ["after each stage"] if network.readout.over_time else []
            words += ["compression"] if network.readout.compression else []
            words += _ops_words(readout_ops(network) or ())
            pool = "global max pool" if network.readout.pool == "max" else "global pool"
            return [", ".join([*words, pool])]
        case Part.CLASSIFIER:
            return [f"{network.classifier.classes} classes"]


_NAMES: dict[type[Op], str] = {
    Norm: "BN",
    GroupNorm: "group norm",
    Relu: "ReLU",
    Bias: "bias",
    Gate: "gate",
    LocalResponse: "local response",
    MaxPool: "max pool",
    AvgPool: "avg pool",
    Upsample: "upsampling",
    Skip: "skip",
}


def _ops_words(ops: Ops) -> list[str]:
    """The convolutions of a list of ops, then its other ops, each kind of them once."""
    sizes = [f"{op.kernel}×{op.kernel}" for op in walk(ops) if isinstance(op, Conv)]
    others = dict.fromkeys(_NAMES[type(op)] for op in walk(ops) if type(op) in _NAMES)
    convolutions = f"{', '.join(sizes)} convolution{'s' * (len(sizes) > 1)}"
    return [*([convolutions] if sizes else []), *([", ".join(others)] if others else [])]


def _arrows(cost: NetworkCost) -> tuple[Arrow, ...]:
    """The main path from the images on, and those from each block to its readout."""
    main = [s for s in cost.sections if s.part in (Part.STEM, Part.BLOCK, Part.TRANSITION)]
    order = [str(section) for section in sorted(main, key=_along)]
    pairs = list(zip(["images", *order], order, strict=False))
    readouts = [section for section in cost.sections if section.part is Part.READOUT]
    pairs += [(str(Section(Part.BLOCK, each.index)), str(each)) for each in readouts]
    pairs += [(str(each), str(Part.CLASSIFIER)) for each in readouts]
    return tuple(Arrow(f"{a}_{b}", a, b, Stroke.FLOW) for a, b in pairs)


def _along(section: Section) -> tuple[int, bool]:
    """Stem, block 1, transition 1, block 2, ..."""
    return section.index, section.part is Part.TRANSITION
