"""One update of a block as operations: edge ops, combine, layer ops (``blocks/model.py``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cliquegraph.blocks import model
from cliquegraph.blocks.model import Block, Layer, Ops, Read, walk
from cliquegraph.ir import ops
from cliquegraph.ir.builder import Span, TensorPart
from cliquegraph.ir.names import EDGE_KERNEL, value_hint
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import MapType, Section, TensorType
from cliquegraph.lowering.apply import OpLowering, Site, has_tensors_besides_kernel, initial
from cliquegraph.steps.graph import Step


def lower_step(
    declared: Block,
    section: Section,
    step: Step,
    reads: Sequence[Value],
    newest: Mapping[int, Value],
    lowering: OpLowering,
) -> Value:
    """Lower one update, literally.

    Sources whose edges have equal ops that end in their only convolution are concatenated: the
    ops before it act on each channel separately, so that one convolution with the kernels of all
    these edges is the sum over them. Any other edge is lowered by itself, as are all of a layer
    that drops operands, and the results are added.

    Args:
        declared: the block.
        section: its section.
        step: the update.
        reads: the values that it reads, in the order of the step's reads.
        newest: the newest version of each layer that is written, from which a layer that reads
            nothing takes its size.
        lowering: appends the nodes.
    """
    builder = lowering.builder
    value = _Update(declared, section, step, lowering).lower(reads, newest)
    if value in reads:
        message = f"X{step.layer} reads {step.reads[reads.index(value)]} alone, and is the same"
        raise builder.refusal(ShapeError(message, "give the edge or the layer an op"))
    stage = step.stage if declared.words.staged else None
    return builder.name(value, value_hint("x", step.layer, stage))


@dataclass(frozen=True)
class _Edges:
    """Edges that are lowered together.

    Attributes:
        ops: the ops of each.
        positions: their positions among the step's reads.
        distribute: whether they become one convolution of a concatenation.
    """

    ops: Ops
    positions: tuple[int, ...]

    distribute: bool = False


def _group_edges(reads: Sequence[Read], layer: Layer, stages: int) -> list[_Edges]:
    """Group the edges that are lowered together, in the order of their first."""
    declared = Counter(_gathering(read, stages) for read in layer.reads)
    positions_of: dict[Ops, list[int]] = {}
    groups: list[_Edges] = []
    for position, read in enumerate(reads):
        gathering = _gathering(read, stages)
        if gathering is None or (declared[gathering] == 1 and read.by_own_kernel):
            groups.append(_Edges(read.ops, (position,)))
        else:
            positions_of.setdefault(gathering, []).append(position)
    groups += [_Edges(each, tuple(p), distribute=True) for each, p in positions_of.items()]
    return sorted(groups, key=lambda edges: edges.positions)


def _gathering(read: Read, stages: int) -> Ops | None:
    """The ops by which a source is gathered with others; None for an edge by itself.

    What every stage computes alike from X0 is by itself, so that it can be computed once.
    """
    *before, last = read.ops or (None,)
    if not isinstance(last, model.Conv) or last.bias or last.depthwise:
        return None
    if not all(isinstance(op, model.Norm | model.Relu) for op in before):
        return None
    again = read.source == 0 and read.every_stage and stages > 1 and last.role == EDGE_KERNEL
    if again and not any(isinstance(op, model.Norm) for op in before):
        return None
    return read.ops


def _spans(reads: Sequence[Read], values: Sequence[Value]) -> dict[str, dict[int, Span]]:
    """The span of each read in the normalizations that cover several edges, by their roles."""
    by_role: dict[str, dict[int, Span]] = {}
    for position, (read, value) in enumerate(zip(reads, values, strict=True)):
        for role in read.gathered:
            spans = by_role.setdefault(role, {})
            start = max((stop for _, stop in spans.values()), default=0)
            spans[position] = (start, start + value.type.channels)
    return by_role


@dataclass(frozen=True)
class _Update:
    """One update."""

    declared: Block
    section: Section
    step: Step
    ops: OpLowering

    def lower(self, values: Sequence[Value], newest: Mapping[int, Value]) -> Value:
        layer = self.declared.layer(self.step.layer)
        if not values:
            return self.ops.run(layer.ops, self._zeros(layer, newest), self._site)
        by_source = {read.source: read for read in layer.reads}
        reads = [by_source[feature.layer] for feature in self.step.reads]
        spans = _spans(reads, values)
        drop = layer.join_drop if len(reads) > 1 else None
        groups = (
            _group_edges(reads, layer, self.declared.schedule.stages)
            if drop is None
            else [_Edges(read.ops, (position,)) for position, read in enumerate(reads)]
        )
        terms = [self._edges(each, reads, values, spans) for each in groups]
        self._require_one_type(groups, reads, terms)
        if drop is None:
            value = self._combine(terms, len(values), layer.combine)
        else:
            columns = dict(zip(layer.reads, drop.columns, strict=True))
            drop = replace(drop, columns=tuple(columns[read] for read in reads))
            value = self.ops.join(terms, drop)
        return self.ops.run(layer.ops, value, self._site)

    @cached_property
    def _site(self) -> Site:
        """The site of the layer's ops."""
        block, step = self.declared, self.step
        reads_x0 = any(feature.layer == 0 for feature in step.reads)
        return Site(
            self.section,
            step.layer,
            block.norm_stage(step.stage),
            staged=block.words.staged,
            shared_norms=block.words.staged and block.norms == "shared",
            stride=block.stride if reads_x0 else 1,
            can_project=step.stage == 1,
        )

    def _edges(
        self,
        edges: _Edges,
        reads: Sequence[Read],
        values: Sequence[Value],
        spans: Mapping[str, Mapping[int, Span]],
    ) -> Value:
        """Apply the ops of edges that are lowered together."""
        edge_reads = [reads[position] for position in edges.positions]
        sources = [values[position] for position in edges.positions]
        parts = {role: self._part(edges, each) for role, each in spans.items()}
        site = replace(self._site, spans={role: part for role, part in parts.items() if part})
        if not edges.distribute:
            source = edge_reads[0].source
            on_edge = replace(site, source=source, number=self._number(source), can_project=False)
            return self.ops.run(edges.ops, sources[0], on_edge)
        *before, last = edges.ops
        assert isinstance(last, model.Conv)  # noqa: S101  # they distribute over one
        assert last.filters is not None  # noqa: S101  # only a depthwise one has none
        self._require_equal_sizes(edge_reads, sources)
        value = self.ops.builder.add(ops.Concat(), sources)
        for op in before:
            value = self.ops.apply(op, value, site)
        convolution = ops.Conv(last.filters, last.kernel, site.stride_of(last))
        if last.role != EDGE_KERNEL:
            slot = site.kernel(last)
            return self.ops.builder.add(convolution, [value], slot=slot, init=initial(last))
        slots = [site.kernel(last, read.source) for read in edge_reads]
        return self.ops.builder.add_edges(convolution, value, sources, slots, init=initial(last))

    def _part(self, edges: _Edges, spans: Mapping[int, Span]) -> TensorPart | None:
        """The part of a normalization that covers these edges, unless that is all of it."""
        own = [spans[position] for position in edges.positions if position in spans]
        if len(own) in (0, len(spans)):
            return None
        width = max(stop for _, stop in spans.values())
        return TensorPart(width, tuple(own), number=edges.positions[0] + 1)

    def _number(self, source: int) -> int | None:
        """The number, from 1, of an edge among those with tensors besides their kernels."""
        reads = self.declared.layer(self.step.layer).reads
        own = [read.source for read in reads if has_tensors_besides_kernel(read.ops)]
        return own.index(source) + 1 if source in own and len(own) > 1 else None

    def _require_equal_sizes(self, reads: Sequence[Read], values: Sequence[Value]) -> None:
        """Raise a ``SpecError`` that names the layers if maps of different sizes meet."""
        first = values[0].type
        for read, value in zip(reads, values, strict=True):
            if (other := value.type) != first and _size(other) != _size(first):
                meeting = f"X{reads[0].source}, {first}, and X{read.source}, {other}"
                message = (
                    f"X{self.step.layer} reads {meeting}: maps of different sizes can't be combined"
                )
                hint = "let edges pool, stride or upsample to one size"
                raise self.ops.builder.refusal(ShapeError(message, hint))

    def _require_one_type(
        self, groups: Sequence[_Edges], reads: Sequence[Read], terms: Sequence[Value]
    ) -> None:
        """Raise a ``SpecError`` that names the layers if edges write different types."""
        first, own = groups[0], terms[0].type
        for each, term in zip(groups, terms, strict=True):
            if term.type != own:
                one, other = (f"X{reads[group.positions[0]].source}" for group in (first, each))
                meeting = f"{one}, {own}, and {other}, {term.type}"
                message = f"X{self.step.layer} reads {meeting}, and can't add the two"
                hint = "let edges pool, stride or upsample to one size, and convolve to one width"
                raise self.ops.builder.refusal(ShapeError(message, hint))

    def _combine(self, terms: list[Value], reads: int, how: str) -> Value:
        if how == "mean" and reads > 1:
            return self.ops.builder.add(ops.Mean(reads), terms)
        return self.ops.sum(terms)

    def _zeros(self, layer: Layer, newest: Mapping[int, Value]) -> Value:
        """What a layer combines that reads nothing in stage 1: zeros as large as its later reads.

        Raises:
            SpecError: the size can't be told, as none of its sources was visited before.
        """
        sources = [read for read in layer.reads if read.source in newest]
        others = [read for read in sources if read.source not in (0, self.step.layer)]
        name = f"X{self.step.layer} reads nothing in stage 1"
        if not others:
            message = f"{name}, and its zeros are of no size: it reads none of the layers before it"
            hint = "visit one of its sources before it, or let it read X0"
            raise self.ops.builder.refusal(ShapeError(message, hint))
        read = others[0]
        source = newest[read.source]
        resizing = [op for op in walk(read.ops) if _resizes(op)]
        if len(resizing) > 1 or any(isinstance(op, model.Upsample) for op in resizing):
            message = f"{name}: its zeros are of the size that X{read.source} has after its edge"
            hint = "let the edge have one op that changes sizes: a convolution or a pool"
            raise self.ops.builder.refusal(ShapeError(message, hint))
        convs = [op for op in walk(read.ops) if isinstance(op, model.Conv) and op.filters]
        channels = (convs[-1].filters if convs else None) or source.type.channels
        zeros = ops.Zeros(channels)
        for op in resizing:
            assert isinstance(op, model.Conv | model.MaxPool | model.AvgPool)  # noqa: S101
            padding = (op.kernel - 1) // 2 if isinstance(op, model.Conv) else 0
            padding = op.padding if isinstance(op, model.MaxPool) else padding
            zeros = ops.Zeros(channels, op.kernel, op.stride, padding)
        return self.ops.builder.add(zeros, [source])


def _resizes(op: model.Op) -> bool:
    """Whether an op changes the size of maps."""
    if isinstance(op, model.Conv):
        return op.stride > 1 or op.kernel % 2 == 0
    return isinstance(op, model.MaxPool | model.AvgPool | model.Upsample)


def _size(type_: TensorType) -> tuple[int, int] | None:
    return (type_.height, type_.width) if isinstance(type_, MapType) else None
