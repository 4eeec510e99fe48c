"""That an op graph reads what its step graph says, update for update, channel for channel.

The proof of sharing reads the schedule; this reads what was made of it, at any -O level: it knows
no name but those of tensors, and follows the channels of each feature to the kernels and the
normalisations that they meet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.edges import INPUTS, edge_kernels
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import (
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    GlobalAvgPool,
    Moments,
    Normalize,
    Relu,
)
from cliquegraph.ir.types import Field, MapType, Part, Piece, Section, Slot, cut
from cliquegraph.steps.graph import Edge, Feature, Step, StepGraph

_Read = tuple[Feature, Piece]


def verify_wiring(steps: StepGraph, graph: Graph) -> None:
    """Check that an op graph is wired as its steps say.

    1. Every update is in the graph. It reads the features of its step and no others, each once
       and by the kernel of its pair (Eq. 1); its other tensors are its layer's own.
    2. What normalises a feature, or stands for its statistics, is the part of a normalisation
       of a reader's own stage at which the feature lies among that reader's features.
    3. Block features are those of the schedule. Each block that the readout names has one that
       reads its feature, and no other has; each transition reads the transit before it.

    Raises:
        VerificationError: a rule is broken; names the update.
    """
    if steps.network.transition is None or any(block.values for block in steps.blocks):
        return  # values pass through additions and between blocks, which this does not follow
    found = {node.origin.section for node in (*graph.nodes, *graph.idle)}
    blocks = range(1, len(steps.blocks) + 1)
    needed = [Section(Part.STEM), *map(_block, blocks), *map(_before, blocks[1:])]
    first = 1 if steps.network.readout.blocks == "all" else len(steps.blocks)
    readouts = [Section(Part.READOUT, block) for block in blocks[first - 1 :]]
    if missing := [section for section in (*needed, *readouts) if section not in found]:
        raise VerificationError(f"{missing[0]} is not in the graph")
    if strange := {section for section in found if section.index not in (0, *blocks)}:
        raise VerificationError(f"{min(map(str, strange))}: the steps have no such block")
    if extra := {s for s in found if s.part is Part.READOUT} - set(readouts):
        raise VerificationError(f"{min(map(str, extra))}: the spec reads no such block")
    _Wiring(steps, graph).check()


class _Wiring:
    """What is known of a graph while its nodes are walked through, first to last."""

    def __init__(self, steps: StepGraph, graph: Graph) -> None:
        self._blocks = steps.blocks
        self._graph = graph
        self._nodes = (*graph.nodes, *graph.idle)
        self._step = {step.writes: step for step in steps.steps}
        self._last = {_update(node): node for node in self._nodes if not _is_moments(node)}
        self._features: dict[Value, tuple[Feature, ...]] = {}  # whose channels a value has
        self._read: dict[Feature, list[_Read]] = defaultdict(list)
        self._reading: set[Section] = set()  # what has read the feature or transit of its block
        kernels = edge_kernels(graph)
        self._kernel = {
            Edge(b, *pair): piece for b, pairs in kernels.items() for pair, piece in pairs.items()
        }
        self._input = {b: self._last_of(_before(b)) for b in range(1, len(self._blocks) + 1)}
        self._features |= {value: (Feature(b, 0, 0),) for b, value in self._input.items()}
        self._normalised = dict(self._normalisations())

    def check(self) -> None:
        for node in self._nodes:
            update, section = _update(node), node.origin.section
            if isinstance(node.op, Concat):
                self._concatenate(node)
            elif _is_moments(node):
                self._require_lying(node, self._features.get(node.inputs[0], ()))
            elif update is not None:
                self._take(node, update)
            elif (
                section.part in (Part.TRANSITION, Part.READOUT) and node.inputs[0] in self._features
            ):
                self._require_read(node, section)
            if update is not None and update not in self._step:
                raise _broken(node, "there is no such update")
            if update is not None and node is self._last[update]:
                self._require_step(node, self._step[update])
                self._features[node.output] = (update,)
        if missing := self._step.keys() - self._last.keys():
            raise VerificationError(f"{_name(min(missing))} is not in the graph")
        if len(self._graph.features) != len(self._blocks):
            raise VerificationError(
                f"{len(self._graph.features)} block features, the steps have {len(self._blocks)}"
            )
        for block, value in zip(self._blocks, self._graph.features, strict=True):
            if self._features.get(value) != block.feature:
                raise VerificationError(
                    f"block {block.index}: the block feature is {self._say(value)}, "
                    f"the steps say {_names(block.feature)}"
                )
        sections = dict.fromkeys(node.origin.section for node in self._nodes)
        for section in sections:
            if section.part in (Part.TRANSITION, Part.READOUT) and section not in self._reading:
                raise VerificationError(f"{section} reads nothing of block {section.index}")

    def _concatenate(self, node: Node) -> None:
        parts = [self._features.get(value) for value in node.inputs]
        if any(parts):
            if not all(parts):
                raise _broken(node, "concatenates features with what is none")
            self._features[node.output] = tuple(f for part in parts for f in part or ())

    def _take(self, node: Node, update: Feature) -> None:
        """Follow features through a node of an update."""
        self._require_own(node, self._step[update])
        features = self._features.get(node.inputs[0])
        if features is None:
            writer = self._graph.producers[node.inputs[0]]
            if _update(writer) != update:
                raise _broken(node, f"reads what {writer.origin} wrote, which is no feature")
        elif isinstance(node.op, Conv):
            self._read[update] += self._pairs(node, features, Field.WEIGHT)
        else:
            self._require_lying(node, features)
            self._features[node.output] = features

    def _require_own(self, node: Node, step: Step) -> None:
        """An update's tensors are those of its block, its layer and its stage."""
        stage = self._norm_stage(step)
        for piece in (piece for operand in node.operands for piece in operand.pieces):
            slot = piece.tensor.slot
            own = (slot.section, slot.layer) == (_block(step.block), step.layer)
            if not own or slot.stage not in (None, stage):
                raise _broken(node, f"reads {tensor_name(piece.tensor)}")

    def _require_lying(self, node: Node, features: tuple[Feature, ...]) -> None:
        """Tensors over the channels of features lie where their readers have the features."""
        if isinstance(node.op, Normalize):
            writers = [self._graph.producers[value] for value in node.inputs[1:]]
            moments = tuple(f for each in writers for f in self._features.get(each.inputs[0], ()))
            if moments != features:
                raise _broken(
                    node, f"normalises {_names(features)} by the moments of {_names(moments)}"
                )
        elif not isinstance(node.op, BatchNorm | Moments | Relu | Dropout):
            raise _broken(node, f"reads {_names(features)}")
        for field in node.op.fields:
            for feature, piece in self._pairs(node, features, field):
                start, stop = self._normalised.get((piece.tensor.slot, feature), (0, 0))
                if (piece.start, piece.stop) != (start, stop):
                    raise _broken(node, f"meets {feature} with {_piece(piece)}")

    def _pairs(self, node: Node, features: Iterable[Feature], field: Field) -> list[_Read]:
        """Each feature with the pieces of tensors that lie over its channels."""
        operands = [operand for operand in node.operands if operand.param.field == field]
        holdings = [[piece for operand in operands for piece in operand.pieces]]
        if isinstance(node.op, Moments):
            holdings = [list(pieces) for operand in operands for pieces in operand.param.holdings]
        ends = [0, *accumulate(self._channels(feature) for feature in features)]
        return [
            (feature, piece)
            for pieces in holdings
            for feature, parts in zip(features, cut(pieces, *ends), strict=True)
            for piece in parts
        ]

    def _require_step(self, node: Node, step: Step) -> None:
        found = Counter(self._read[step.writes])
        if missing := [edge for edge in step.kernels if edge not in self._kernel]:
            raise _broken(node, f"there is no kernel {missing[0]}")
        pairs = zip(step.reads, step.kernels, strict=True)
        expected = Counter((feature, self._kernel[edge]) for feature, edge in pairs)
        if found != expected:
            raise _broken(
                node,
                f"reads {_reads(found.elements())}, its step says {_reads(expected.elements())}",
            )

    def _require_read(self, node: Node, section: Section) -> None:
        """What a section normalises first is the feature or the transit of its block."""
        block, features = self._blocks[section.index - 1], self._features[node.inputs[0]]
        expected = block.transit if section.part is Part.TRANSITION else block.feature
        if Counter(features) != Counter(expected):
            raise _broken(node, f"reads {_names(features)}, the steps say {_names(expected)}")
        if not isinstance(node.op, GlobalAvgPool):  # which has no tensors to meet features
            self._require_lying(node, features)
        self._reading.add(section)

    def _normalisations(self) -> Iterator[tuple[tuple[Slot, Feature], tuple[int, int]]]:
        """Where each normalisation of features has each of them, in ascending order of layers."""
        for block in self._blocks:
            readers: list[tuple[Slot, tuple[Feature, ...]]] = [
                (Slot(Section(Part.TRANSITION, block.index), "norm"), block.transit),
                (Slot(Section(Part.READOUT, block.index), "norm"), block.feature),
                (Slot(Section(Part.READOUT, block.index), "compress.norm"), block.feature),
            ]
            for step in block.steps:
                slot = Slot(_block(block.index), "norm", step.layer, self._norm_stage(step))
                readers.append((slot, step.reads))
            for slot, features in readers:
                ordered = sorted(features, key=lambda feature: feature.layer)
                ends = [0, *accumulate(self._channels(feature) for feature in ordered)]
                for feature, bounds in zip(ordered, pairwise(ends), strict=True):
                    yield (slot, feature), bounds

    def _channels(self, feature: Feature) -> int:
        if feature.layer:
            return self._blocks[feature.block - 1].declared.layer(feature.layer).filters
        return self._input[feature.block].type.channels

    def _norm_stage(self, step: Step) -> int | None:
        """The stage whose normalisation an update has: its own, or stage 2's from there on.

        Said once more here, for what the lowering asks is what is checked.
        """
        declared = self._blocks[step.block - 1].declared
        if not declared.words.staged:
            return None
        return step.stage if declared.norms == "per_stage" or step.stage == 1 else 2

    def _last_of(self, section: Section) -> Value:
        """The maps that a section leaves."""
        maps = [
            node.output
            for node in self._nodes
            if node.origin.section == section and isinstance(node.outputs[0].type, MapType)
        ]
        return maps[-1]

    def _say(self, value: Value) -> str:
        return _names(self._features.get(value, ()))


def _is_moments(node: Node) -> bool:
    return isinstance(node.op, Moments)


def _block(index: int) -> Section:
    return Section(Part.BLOCK, index)


def _before(block: int) -> Section:
    return Section(Part.STEM) if block == 1 else Section(Part.TRANSITION, block - 1)


def _update(node: Node) -> Feature | None:
    """The feature whose update a node belongs to, if it does."""
    origin = node.origin
    if origin.layer is None or origin.stage is None:
        return None
    return Feature(origin.section.index, origin.layer, origin.stage)


def _piece(piece: Piece) -> str:
    axis = INPUTS if piece.tensor.field == Field.WEIGHT else 0
    name, extent = tensor_name(piece.tensor), piece.tensor.shape[axis]
    return name if piece.extent == extent else f"{name}[{piece.start}:{piece.stop}]"


def _reads(reads: Iterable[_Read]) -> str:
    """Each feature and its kernel, in the order of layers."""
    ordered = sorted(reads, key=lambda read: read[0])
    return "{" + ", ".join(f"{feature} by {_piece(piece)}" for feature, piece in ordered) + "}"


def _name(feature: Feature) -> str:
    return f"block {feature.block}, stage {feature.stage} layer {feature.layer}"


def _names(features: Iterable[Feature]) -> str:
    return "{" + ", ".join(map(str, features)) + "}"


def _broken(node: Node, message: str) -> VerificationError:
    return VerificationError(f"{node.op.mnemonic} in {node.origin}: {message}")
