"""One update of a block as operations: edge ops, combine, layer ops (``blocks/model.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from math import prod

from cliquegraph.blocks import model
from cliquegraph.blocks.model import Block, Ops, Read, walk
from cliquegraph.ir import ops
from cliquegraph.ir.builder import Builder, Span, TensorPart
from cliquegraph.ir.names import EDGE_KERNEL, SPATIAL_KERNEL, value_hint
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, Init, MapType, Section, Slot, TensorType
from cliquegraph.steps.graph import Step


def lower_step(
    declared: Block, section: Section, step: Step, reads: Sequence[Value], builder: Builder
) -> Value:
    """Lower one update, literally.

    Sources whose edges have equal ops that end in their only convolution are concatenated: the
    ops before it act on each channel separately, so that one convolution with the kernels of all
    these edges is the sum over them. Any other edge is lowered by itself, and the results are
    added.

    Args:
        declared: the block.
        section: its section.
        step: the update.
        reads: the values that it reads, in the order of the step's reads.
        builder: the nodes are appended to it.
    """
    value = _Update(declared, section, step, builder).lower(reads)
    if value in reads:
        message = f"X{step.layer} reads {step.reads[reads.index(value)]} alone, and is the same"
        raise builder.refusal(ShapeError(message, "give the edge or the layer an op"))
    stage = step.stage if declared.words.staged else None
    return builder.name(value, value_hint("x", step.layer, stage))


@dataclass(frozen=True)
class _Place:
    """The place of an op: in the layer, or on edges.

    Attributes:
        source: the source of a single edge.
        spans: on edges, their channels of each normalization that covers other edges too, by its
            role.
        after_kernel: on an edge after its kernel, where normalizations cover this edge alone.
    """

    source: int | None = None
    spans: Mapping[str, TensorPart] = field(default_factory=dict)
    after_kernel: bool = False


_IN_LAYER = _Place()


@dataclass(frozen=True)
class _Edges:
    """Edges that are lowered together.

    Attributes:
        ops: the ops of each.
        positions: their positions among the step's reads.
    """

    ops: Ops
    positions: tuple[int, ...]

    @property
    def distribute(self) -> bool:
        """Whether they become one convolution of a concatenation."""
        *before, last = self.ops or (None,)
        return isinstance(last, model.Conv) and all(
            isinstance(op, model.Norm | model.Relu) for op in before
        )


def _group_edges(reads: Sequence[Read]) -> list[_Edges]:
    """Group the edges that are lowered together, in the order of their first."""
    positions_of: dict[Ops, list[int]] = {}
    for position, read in enumerate(reads):
        positions_of.setdefault(read.ops, []).append(position)
    groups: list[_Edges] = []
    for ops_of_edge, positions in positions_of.items():
        edges = _Edges(ops_of_edge, tuple(positions))
        groups += [edges] if edges.distribute else [_Edges(ops_of_edge, (p,)) for p in positions]
    return sorted(groups, key=lambda edges: edges.positions)


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
    """One update.

    Attributes:
        mask: the mask of the enclosing branch, if it is dropped for whole batches.
        projected: where its skips have projections so far.
    """

    declared: Block
    section: Section
    step: Step
    builder: Builder
    mask: Value | None = None
    projected: list[_Place] = field(default_factory=list)

    def lower(self, values: Sequence[Value]) -> Value:
        layer = self.declared.layer(self.step.layer)
        by_source = {read.source: read for read in layer.reads}
        reads = [by_source[feature.layer] for feature in self.step.reads]
        spans = _spans(reads, values)
        terms = [self._edges(each, reads, values, spans) for each in _group_edges(reads)]
        value = self._combine(terms, len(values), layer.combine)
        return self._run(layer.ops, value, _IN_LAYER)

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
        place = _Place(spans={role: part for role, part in parts.items() if part})
        if not edges.distribute:
            return self._run(edges.ops, sources[0], replace(place, source=edge_reads[0].source))
        *before, last = edges.ops
        assert isinstance(last, model.Conv)  # noqa: S101  # they distribute over one
        self._require_equal_sizes(edge_reads, sources)
        value = self.builder.add(ops.Concat(), sources)
        for op in before:
            value = self.apply(op, value, place)
        convolution, init = ops.Conv(last.filters, last.kernel, self._stride(last)), _initial(last)
        if last.role != EDGE_KERNEL:
            return self.builder.add(convolution, [value], slot=self._kernel(last), init=init)
        slots = [self._edge_kernel(last, read.source) for read in edge_reads]
        return self.builder.add_edges(convolution, value, sources, slots, init=init)

    def _part(self, edges: _Edges, spans: Mapping[int, Span]) -> TensorPart | None:
        """The part of a normalization that covers these edges, unless that is all of it."""
        own = [spans[position] for position in edges.positions if position in spans]
        if len(own) in (0, len(spans)):
            return None
        width = max(stop for _, stop in spans.values())
        return TensorPart(width, tuple(own), number=edges.positions[0] + 1)

    def _number(self, source: int | None) -> int | None:
        """The number, from 1, of an edge among those with normalizations of their own."""
        reads = self.declared.layer(self.step.layer).reads
        own = [read.source for read in reads if read.has_own_norms]
        return own.index(source) + 1 if source in own and len(own) > 1 else None

    def _require_equal_sizes(self, reads: Sequence[Read], values: Sequence[Value]) -> None:
        """Raise a ``SpecError`` that names the layers if maps of different sizes meet."""
        first = values[0].type
        for read, value in zip(reads, values, strict=True):
            if (other := value.type) != first and _size(other) != _size(first):
                meeting = f"X{reads[0].source}, {first}, and X{read.source}, {other}"
                message = f"X{self.step.layer} reads {meeting}: maps of two sizes can't meet"
                hint = "let edges pool, stride or upsample to one size"
                raise self.builder.refusal(ShapeError(message, hint))

    def _slot(self, role: str, source: int | None = None) -> Slot:
        return Slot(self.section, role, self.step.layer, source=source)

    def _combine(self, terms: Sequence[Value], reads: int, how: str) -> Value:
        if how == "mean" and reads > 1:
            return self.builder.add(ops.Mean(reads), terms)
        return self._sum(terms)

    def _sum(self, values: Sequence[Value]) -> Value:
        return values[0] if len(values) == 1 else self.builder.add(ops.Add(), values)

    def _edge_kernel(self, conv: model.Conv, source: int | None) -> Slot:
        return replace(self._slot(EDGE_KERNEL, source=source), index=conv.index, shared=True)

    def _kernel(self, conv: model.Conv) -> Slot:
        # Without stages in their names, layers are updated once: no stages share the kernel.
        shared = conv.role == SPATIAL_KERNEL and self.declared.words.staged
        return replace(self._slot(conv.role), index=conv.index, shared=shared)

    def _stride(self, conv: model.Conv) -> int:
        """The block's stride for a convolution that reduces, if the update reads X0."""
        reads_x0 = any(feature.layer == 0 for feature in self.step.reads)
        return self.declared.stride if conv.reduce and reads_x0 else conv.stride

    @singledispatchmethod
    def apply(self, op: object, value: Value, place: _Place) -> Value:
        """Append the nodes of one op; each kind of op registers a method."""
        raise TypeError(f"no operation for {type(op).__name__}")

    @apply.register
    def _(self, op: model.Norm, value: Value, place: _Place) -> Value:
        stage = self.declared.norm_stage(self.step.stage)
        slot = Slot(self.section, op.role, self.step.layer, stage)
        if place.after_kernel:
            slot = replace(slot, source=place.source, index=self._number(place.source))
        init = {Field.SCALE: Init.ZEROS} if op.zero else {}
        part = None if place.after_kernel else place.spans.get(op.role)
        read = [value] if self.mask is None else [value, self.mask]
        return self.builder.add(ops.BatchNorm(), read, slot=slot, init=init, part=part)

    @apply.register
    def _(self, op: model.Relu, value: Value, place: _Place) -> Value:
        return self.builder.add(ops.Relu(), [value])

    @apply.register
    def _(self, op: model.Conv, value: Value, place: _Place) -> Value:
        convolution = ops.Conv(op.filters, op.kernel, self._stride(op))
        on_edge = place.source is not None and op.role == EDGE_KERNEL
        slot = self._edge_kernel(op, place.source) if on_edge else self._kernel(op)
        return self.builder.add(convolution, [value], slot=slot, init=_initial(op))

    @apply.register
    def _(self, op: model.Dropout, value: Value, place: _Place) -> Value:
        return self.builder.add(ops.Dropout(op.rate), [value])

    @apply.register
    def _(self, op: model.Skip, value: Value, place: _Place) -> Value:
        branch = self._branch(op, value, place)
        return self._sum([branch, self._shortcut(op, value, branch, place)])

    def _branch(self, skip: model.Skip, value: Value, place: _Place) -> Value:
        """The branch of a skip; with drop-path, times its mask."""
        drop = skip.drop
        if drop is None:
            return self._run(skip.branch, value, place)
        mask = self.builder.add(ops.Keep(drop.rate, drop.per == "image"), [value], hint="keep")
        inside = replace(self, mask=mask) if drop.per == "batch" else self
        branch = inside._run(skip.branch, value, place)
        return self.builder.add(ops.DropPath(drop.rate, drop.scale), [branch, mask])

    def _run(self, each: Ops, value: Value, place: _Place) -> Value:
        """Apply ops in order; after its kernel, an edge has normalizations of its own."""
        for op in each:
            value = self.apply(op, value, place)
            if place.source is not None and any(isinstance(o, model.Conv) for o in walk((op,))):
                place = replace(place, after_kernel=True)
        return value

    def _shortcut(self, skip: model.Skip, value: Value, branch: Value, place: _Place) -> Value:
        """The shortcut of a skip: the value, brought to the channels and size of the branch."""
        if value.type == branch.type:
            return value
        kernels = [op for op in walk(skip.branch) if isinstance(op, model.Conv)]
        stride = prod(map(self._stride, kernels))
        channels = branch.type.channels
        if skip.shortcut == "pad":
            return self._pad_shortcut(value, stride, channels)
        self._require_one_projection(value, branch, place)
        stage = self.declared.norm_stage(self.step.stage)
        conv, norm = (
            Slot(self.section, f"shortcut.{role}", self.step.layer, stage)
            for role in ("conv", "norm")
        )
        init = _initial(kernels[-1])  # as the branch's own
        value = self.builder.add(ops.Conv(channels, 1, stride), [value], slot=conv, init=init)
        return self.builder.add(ops.BatchNorm(), [value], slot=norm)

    def _require_one_projection(self, value: Value, branch: Value, place: _Place) -> None:
        """Refuse a projection whose tensors another would share, by their names."""
        self.projected.append(place)
        first_stage, in_layer = self.step.stage == 1, place == _IN_LAYER
        if first_stage and in_layer and len(self.projected) == 1:
            return
        message = f"a skip of X{self.step.layer} takes {value.type} to {branch.type}"
        if in_layer:
            where = "an update has one projection, in stage 1"
        else:
            where = "a skip on an edge can't project"
        hint = "let channels and sizes agree, or write shortcut: pad"
        raise self.builder.refusal(ShapeError(f"{message}; {where}", hint))

    def _pad_shortcut(self, value: Value, stride: int, channels: int) -> Value:
        """Average-pool by the stride, then pad with zero maps."""
        maps, hint = value.type, "write shortcut: projection"
        assert isinstance(maps, MapType)  # noqa: S101  # a block has no vectors
        if maps.channels > channels:
            message = f"{maps.channels} maps can't be padded to {channels}"
            raise self.builder.refusal(ShapeError(message, hint))
        if maps.height % stride or maps.width % stride:
            message = (
                f"maps of {maps} can't be pooled by {stride}: their sides are no multiples of it"
            )
            raise self.builder.refusal(ShapeError(message, hint))
        if stride > 1:
            value = self.builder.add(ops.AvgPool(stride, stride), [value])
        if maps.channels < channels:
            value = self.builder.add(ops.PadChannels(channels), [value])
        return value


def _initial(conv: model.Conv) -> dict[Field, Init]:
    return {Field.WEIGHT: Init.HE_FAN_OUT} if conv.fan_out else {}


def _size(type_: TensorType) -> tuple[int, int] | None:
    return (type_.height, type_.width) if isinstance(type_, MapType) else None
