"""References to papers and docstrings of blocks in generated files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cliquegraph.blocks.model import Words
from cliquegraph.emit.words import sequence, shape
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import ScaleChannels
from cliquegraph.ir.types import Part, TensorType, VectorType
from cliquegraph.steps.graph import BlockSteps, Feature


def papers(blocks: Iterable[BlockSteps]) -> tuple[str, ...]:
    """Return the papers that describe a network's blocks, each once."""
    texts = [block.declared.words for block in blocks]
    cited = [*(words.paper for words in texts), *(p for w in texts for p in w.further_papers)]
    return tuple(dict.fromkeys(paper for paper in cited if paper))


def block_class(block: BlockSteps) -> str:
    """Return the name of a block's class, from its kind."""
    return f"{''.join(map(str.capitalize, block.declared.words.kind.split('_')))}Block"


def unit_class(texts: Words, nodes: Sequence[Node]) -> str:
    """Return the name of an update's class, by its tensors and ops."""
    slots = [operand.param.slot for node in nodes for operand in node.operands]
    parts = {slot.role.split(".")[0] for slot in slots} | {node.op.mnemonic for node in nodes}
    return next((name for part, name in texts.variants if part in parts), texts.unit)


def layers_words(layers: Iterable[Feature]) -> str:
    """Return the layers that a block returns, ``X1 … X6 of stage 2``."""
    features = list(layers)
    numbers = [feature.layer for feature in features]
    stages = {feature.stage for feature in features if feature.layer}
    if len(stages) > 1:
        return " ".join(f"X{each.layer} of stage {each.stage}," for each in features).rstrip(",")
    span = " ".join(f"X{number}" for number in numbers[:2])
    if len(numbers) > 2:
        span = f"X{numbers[0]} … X{numbers[-1]}"
    return f"{span} of stage {stages.pop()}"


def block_doc(block: BlockSteps, lists: Iterable[str]) -> str:
    """Return the docstring of a block's class: what it is and what it returns.

    Args:
        block: the block.
        lists: the names of the lists that it returns; none if it returns the feature itself.
    """
    texts = block.declared.words
    title = texts.shared or f"{block_class(block)} of {len(block.declared.layers)} layers"
    if len(block.feature) == 1:
        return f"{title}."
    if block.transit == block.feature:
        return f"{title}: X0 and what each layer makes of all before it."
    outputs = [block.transit if name.startswith("transit") else block.feature for name in lists]
    written = [[each for each in features if each.layer] for features in outputs]
    returned = ", then ".join(dict.fromkeys(map(layers_words, written)))
    return f"{title}: X0 -> {returned}."


_TITLES = {
    Part.STEM: "Image to X0",
    Part.TRANSITION: "Between blocks",
    Part.READOUT: "Block feature to a vector",
}


def section_doc(part: Part, nodes: Sequence[Node], ops: str) -> str:
    """Return the docstring of a section that is not a block; ``ops`` describes its nodes."""
    gated = [i for i, node in enumerate(nodes) if isinstance(node.op, ScaleChannels)]
    if not gated:
        return f"{_TITLES[part]}: {ops}."
    # The nodes of the gate, from the average of each map on, are described as one.
    (scale,) = gated
    gate = [i for i, node in enumerate(nodes) if isinstance(node.output.type, VectorType)]
    rest = [n for i, n in enumerate(nodes) if i > gate[0] and i not in (*gate, scale)]
    parts = [sequence(nodes[: gate[0]]), "attention (Figure 4)", sequence(rest)]
    return f"{_TITLES[part]}: {', '.join(filter(None, parts))}."


def block_comment(x0: TensorType, feature: TensorType) -> str:
    """Return the sizes of a block, ``X0 64 maps of 56×56, feature 304``."""
    return f"X0 {shape(x0)}, feature {feature.channels}"
