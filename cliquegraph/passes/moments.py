"""Share the moments of a feature between all its normalizations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import value_hint
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import BatchNorm, Concat, Input, Moments, Normalize, Relu
from cliquegraph.ir.types import Field, Param, ParamSlice, Part, Piece, Slot
from cliquegraph.passes.cse import COMMON
from cliquegraph.passes.rewrite import rewrite

_STATISTICS = (Field.MEAN, Field.VAR)


@dataclass(frozen=True)
class ShareMoments:
    """Compute the mean and variance of a feature once, however many ops normalize it.

    A feature's moments over the batch do not depend on its readers.

    1. Each value that reaches a ``BatchNorm`` through a concatenation, or that several read, gets
       one ``Moments`` node after the node that writes it. This has the running statistics, which
       are the same for every reader.
    2. The ``BatchNorm`` becomes a ``Normalize`` by the moments of its sources, with its own
       scale and bias.
    3. Where the block concatenated, each reader concatenates by itself, so that no concatenation
       need be saved for backward.

    A ``BatchNorm`` that normalizes several versions of a layer (``norm_per_stage: false``) has
    running statistics of its own and is left as it is, as are the readers of its update's output.
    So are a ``BatchNorm`` without a ReLU of its own after it, since a ``Normalize`` runs in one
    call with its ReLU, and one in a branch that is dropped for whole batches, since the running
    statistics do not move then.
    """

    name = "share moments"

    def apply(self, graph: Graph) -> Graph:
        """Return the graph with shared moments."""
        plan = _Plan(graph)
        if not plan.readers:
            return graph
        moments: dict[Value, Value] = {}

        def nodes_for(node: Node) -> Iterator[Node]:
            if node in plan.dropped:
                return
            if node.output in plan.normalized:
                yield from plan.normalize(node, moments)
            else:
                yield node
            if node.output in plan.slots:
                moments_node = plan.moments_of(node)
                moments[node.output] = moments_node.output
                yield moments_node

        return rewrite(graph, nodes_for)


class _Plan:
    """Which values get moments, and which normalizations read them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        uses = Counter(o.param for node in graph.nodes for o in node.operands)
        norms = [node for node in graph.nodes if _is_rectified(graph, node)]
        one_version = [
            node
            for node in norms
            if all(uses[o.param] == 1 and not o.param.slot.shared for o in node.operands)
        ]
        owners = _owners(graph)
        shareable = {
            node: self.sources(node)
            for node in one_version
            if all(graph.producers[value] in owners for value in self.sources(node))
        }
        for node in [node for node in shareable if self._is_read_elsewhere(node, shareable)]:
            del shareable[node]
        count = Counter(value for sources in shareable.values() for value in sources)
        self.readers: dict[Value, list[Node]] = defaultdict(list)
        for node, sources in shareable.items():
            if len(sources) > 1 or count[sources[0]] > 1:
                for value in sources:
                    self.readers[value].append(node)
        self.normalized = {node.output: node for each in self.readers.values() for node in each}
        self.slots = {value: owners[graph.producers[value]] for value in self.readers}
        self.dropped = {
            node for node in graph.nodes if isinstance(node.op, Concat) and self._is_obsolete(node)
        }

    def sources(self, norm: Node) -> tuple[Value, ...]:
        """Return the features that a node normalizes."""
        maker = self.graph.producers[norm.inputs[0]]
        own = isinstance(maker.op, Concat) and (
            maker.origin.section == norm.origin.section
            or norm.origin.section.part is not Part.BLOCK
        )
        return maker.inputs if own else norm.inputs

    def _is_read_elsewhere(self, norm: Node, shareable: Container[Node]) -> bool:
        """Whether something else reads the concatenation that a node normalizes."""
        maker = self.graph.producers[norm.inputs[0]]
        readers = self.graph.consumers.get(maker.output, ())
        return isinstance(maker.op, Concat) and any(node not in shareable for node in readers)

    def _is_obsolete(self, concat: Node) -> bool:
        """Whether all readers of a concatenation concatenate by themselves."""
        readers = self.graph.consumers.get(concat.output, ())
        return concat.output not in self.graph.outputs and all(
            node.output in self.normalized for node in readers
        )

    def normalize(self, norm: Node, moments: dict[Value, Value]) -> Iterator[Node]:
        """Yield the nodes that replace a ``BatchNorm``: a concatenation, then ``Normalize``."""
        assert isinstance(norm.op, BatchNorm)  # noqa: S101  # the plan has no others
        original = self.normalized[norm.output]
        maker = self.graph.producers[original.inputs[0]]
        maps = norm.inputs[0]
        if isinstance(maker.op, Concat):
            maps = Value(maker.output.type)
            yield replace(maker, outputs=(maps,), origin=norm.origin)
        operands = tuple(o for o in norm.operands if o.param.field not in _STATISTICS)
        read = (maps, *(moments[value] for value in self.sources(original)))
        yield replace(norm, op=Normalize(norm.op.eps), inputs=read, operands=operands)

    def moments_of(self, writer: Node) -> Node:
        """Return the ``Moments`` of a node's output, with the running statistics of its readers."""
        value, slot = writer.output, self.slots[writer.output]
        norms = [reader.op for reader in self.readers[value]]
        (momentum,) = {op.momentum for op in norms if isinstance(op, BatchNorm)}
        op = Moments(momentum)
        letter = "m" if slot.layer is None else value_hint("m", slot.layer, slot.stage)
        (moments_type,) = op.infer((value.type,))
        operands = tuple(self._statistic(value, slot, each).whole() for each in _STATISTICS)
        return Node(op, (value,), operands, (Value(moments_type, letter),), writer.origin)

    def _statistic(self, value: Value, slot: Slot, field: Field) -> Param:
        first, *rest = (self._pieces(reader, value, field) for reader in self.readers[value])
        return Param(slot, field, first, mirrors=tuple(rest))

    def _pieces(self, norm: Node, value: Value, field: Field) -> tuple[Piece, ...]:
        """The part of a reader's running statistic that belongs to the feature."""
        (operand,) = (o for o in norm.operands if o.param.field is field)
        start = 0
        for source in self.sources(norm):
            stop = start + source.type.channels
            if source is value:
                return ParamSlice(operand.param, start, stop).pieces
            start = stop
        raise ValueError("the feature is not a source of its reader")


def _is_rectified(graph: Graph, node: Node) -> bool:
    """Whether a node is a ``BatchNorm`` without a mask, read only by a ReLU of the same place."""
    if not isinstance(node.op, BatchNorm) or node.output in graph.outputs:
        return False
    if any(
        piece.tensor.init is not node.op.fields[o.param.field]
        for o in node.operands
        for piece in o.pieces
    ):
        return False  # a ``Normalize`` starts as usual
    if len(node.inputs) > 1:
        return False
    readers = graph.consumers.get(node.output, ())
    return [(type(reader.op), reader.origin) for reader in readers] == [(Relu, node.origin)]


def _owners(graph: Graph) -> dict[Node, Slot]:
    """The slots for the moments of nodes' outputs, where the place of a node can have them.

    An update that shares its parameters with another stage can't: in generated code it calls the
    member of that stage.
    """
    homes: dict[tuple[object, ...], set[int | None]] = defaultdict(set)
    places: dict[Slot, set[object]] = defaultdict(set)
    for node in graph.nodes:
        place = (node.origin.section, node.origin.stage, node.origin.layer)
        for operand in node.operands:
            slot = operand.param.slot
            if operand.param.field in _STATISTICS:
                homes[place].add(slot.stage)
                places[slot].add(place)
    shared_places = {place for shared in places.values() if len(shared) > 1 for place in shared}
    slots = {}
    for node in graph.nodes:
        origin = node.origin
        place = (origin.section, origin.stage, origin.layer)
        if place in shared_places or isinstance(node.op, Concat | Input):
            continue
        if node.output.hint.startswith(COMMON):
            continue  # its update has the moments of the version that it writes
        if origin.section.part is Part.BLOCK and origin.layer is None:
            continue  # an output of the block, not an update's
        stages = homes[place] if origin.layer is not None else {origin.stage}
        if len(stages) == 1:
            slots[node] = Slot(origin.section, "moments", origin.layer, next(iter(stages)))
    return slots
