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
from cliquegraph.ir.names import EDGE_KERNEL, OWN_KERNEL, SPATIAL_KERNEL, value_hint
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, Init, MapType, Section, Slot, TensorType
from cliquegraph.steps.graph import Step


def lower_step(
    declared: Block, section: Section, step: Step, reads: Sequence[Value], builder: Builder
) -> Value:
    """Lower one update, literally.

    Sources whose edges have equal ops that end in their only convolution are concatenated: what
    stands before it acts on each channel alone, so that one convolution with the kernels of all
    these edges is the sum over them. Any other edge is lowered by itself, and what they come to
    is added.

    Args:
        declared: the block.
        section: where it stands.
        step: the update.
        reads: what it reads, in the order of the step's reads.
        builder: takes the nodes.
    """
    value = _Update(declared, section, step, builder).lower(reads)
    if value in reads:
        message = f"X{step.layer} reads {step.reads[reads.index(value)]} alone, and is the same"
        raise builder.refusal(ShapeError(message, "give the edge or the layer an op"))
    stage = step.stage if declared.words.staged else None
    return builder.name(value, value_hint("x", step.layer, stage))


@dataclass(frozen=True)
class _Place:
    """Where an op stands: in the layer, or on edges.

    Attributes:
        source: the source of a single edge.
        spans: on edges, which channels are theirs of each normalization by its role, where that
            lies over other edges too.
        behind: on an edge behind its kernel, where nothing but this edge is normalized.
    """

    source: int | None = None
    spans: Mapping[str, TensorPart] = field(default_factory=dict)
    behind: bool = False


_IN_LAYER = _Place()


@dataclass(frozen=True)
class _Edges:
    """Edges that are lowered together.

    Attributes:
        ops: of each.
        positions: which of the step's reads they are.
    """

    ops: Ops
    positions: tuple[int, ...]

    @property
    def distribute(self) -> bool:
        """Whether they are one convolution of a concatenation."""
        *before, last = self.ops or (None,)
        return isinstance(last, model.Conv) and all(
            isinstance(op, model.Norm | model.Relu) for op in before
        )


def _together(reads: Sequence[Read]) -> list[_Edges]:
    """Edges that are lowered together, in the order of their first."""
    found: dict[Ops, list[int]] = {}
    for position, read in enumerate(reads):
        found.setdefault(read.ops, []).append(position)
    groups: list[_Edges] = []
    for ops_of_edge, positions in found.items():
        edges = _Edges(ops_of_edge, tuple(positions))
        groups += [edges] if edges.distribute else [_Edges(ops_of_edge, (p,)) for p in positions]
    return sorted(groups, key=lambda edges: edges.positions)


def _spans(reads: Sequence[Read], values: Sequence[Value]) -> dict[str, dict[int, Span]]:
    """Where each read lies in the normalizations over all that a layer reads, by their roles."""
    found: dict[str, dict[int, Span]] = {}
    for position, (read, value) in enumerate(zip(reads, values, strict=True)):
        for role in read.gathered:
            spans = found.setdefault(role, {})
            start = max((stop for _, stop in spans.values()), default=0)
            spans[position] = (start, start + value.type.channels)
    return found


@dataclass(frozen=True)
class _Update:
    """One update.

    Attributes:
        mask: of the branch that is lowered, where whole batches leave it out.
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
        ways = {read.source: read for read in layer.reads}
        reads = [ways[feature.layer] for feature in self.step.reads]
        spans = _spans(reads, values)
        terms = [self._edges(each, reads, values, spans) for each in _together(reads)]
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
        of = [reads[position] for position in edges.positions]
        sources = [values[position] for position in edges.positions]
        parts = {role: self._part(edges, each) for role, each in spans.items()}
        place = _Place(spans={role: part for role, part in parts.items() if part})
        if not edges.distribute:
            return self._run(edges.ops, sources[0], replace(place, source=of[0].source))
        *before, last = edges.ops
        assert isinstance(last, model.Conv)  # noqa: S101  # they distribute over one
        self._require_equal_sizes(of, sources)
        value = self.builder.add(ops.Concat(), sources)
        for op in before:
            value = self.apply(op, value, place)
        convolution, init = ops.Conv(last.filters, last.kernel, self._stride(last)), _initial(last)
        if last.role != EDGE_KERNEL:
            return self.builder.add(convolution, [value], slot=self._kernel(last), init=init)
        slots = [self._edge_kernel(last, read.source) for read in of]
        return self.builder.add_edges(convolution, value, sources, slots, init=init)

    def _part(self, edges: _Edges, spans: Mapping[int, Span]) -> TensorPart | None:
        """What is these edges' of a normalization, unless that is all of it."""
        own = [spans[position] for position in edges.positions if position in spans]
        if len(own) in (0, len(spans)):
            return None
        width = max(stop for _, stop in spans.values())
        return TensorPart(width, tuple(own), number=edges.positions[0] + 1)

    def _number(self, source: int | None) -> int | None:
        """The number of an edge among those with normalizations of their own, from 1."""
        reads = self.declared.layer(self.step.layer).reads
        own = [read.source for read in reads if read.has_own_norms]
        return own.index(source) + 1 if source in own and len(own) > 1 else None

    def _require_equal_sizes(self, reads: Sequence[Read], values: Sequence[Value]) -> None:
        """Refuse maps of different sizes where they meet, by their names."""
        first = values[0].type
        for read, value in zip(reads, values, strict=True):
            if (of := value.type) != first and _size(of) != _size(first):
                meeting = f"X{reads[0].source}, {first}, and X{read.source}, {of}"
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
        return replace(self._slot(EDGE_KERNEL, source=source), index=conv.index)

    def _kernel(self, conv: model.Conv) -> Slot:
        # Where updates carry no stage, there is one of each, and no stages share its kernels.
        once = not self.declared.words.staged
        own = conv.role == SPATIAL_KERNEL and conv.index is not None and once
        return replace(self._slot(OWN_KERNEL if own else conv.role), index=conv.index)

    def _stride(self, conv: model.Conv) -> int:
        """The block's, of a convolution that takes it, where the update reads X0."""
        reads_x0 = any(feature.layer == 0 for feature in self.step.reads)
        return self.declared.stride if conv.reduce and reads_x0 else conv.stride

    @singledispatchmethod
    def apply(self, op: object, value: Value, place: _Place) -> Value:
        """Apply one op to maps; each kind of op registers its own way."""
        raise TypeError(f"no operation for {type(op).__name__}")

    @apply.register
    def _(self, op: model.Norm, value: Value, place: _Place) -> Value:
        stage = self.declared.norm_stage(self.step.stage)
        slot = Slot(self.section, op.role, self.step.layer, stage)
        if place.behind:
            slot = replace(slot, source=place.source, index=self._number(place.source))
        init = {Field.SCALE: Init.ZEROS} if op.zero else {}
        part = None if place.behind else place.spans.get(op.role)
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
        """The branch of a skip; one that is left out at random, times its mask."""
        drop = skip.drop
        if drop is None:
            return self._run(skip.branch, value, place)
        mask = self.builder.add(ops.Keep(drop.rate, drop.per == "image"), [value], hint="keep")
        inside = replace(self, mask=mask) if drop.per == "batch" else self
        branch = inside._run(skip.branch, value, place)
        return self.builder.add(ops.DropPath(drop.rate, drop.scale), [branch, mask])

    def _run(self, each: Ops, value: Value, place: _Place) -> Value:
        """Apply ops; behind a kernel, an edge normalizes what nothing else reads."""
        for op in each:
            value = self.apply(op, value, place)
            if place.source is not None and any(isinstance(o, model.Conv) for o in walk((op,))):
                place = replace(place, behind=True)
        return value

    def _shortcut(self, skip: model.Skip, value: Value, branch: Value, place: _Place) -> Value:
        """What a skip adds to its branch: the value, or one of the branch's channels and size."""
        if value.type == branch.type:
            return value
        kernels = [op for op in walk(skip.branch) if isinstance(op, model.Conv)]
        stride = prod(map(self._stride, kernels))
        channels = branch.type.channels
        if skip.shortcut == "pad":
            return self._padded(value, stride, channels)
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

    def _padded(self, value: Value, stride: int, channels: int) -> Value:
        """The mean of each window of the stride, and maps of zeros behind."""
        maps, way_out = value.type, "write shortcut: projection"
        assert isinstance(maps, MapType)  # noqa: S101  # a block has no vectors
        if maps.channels > channels:
            message = f"{maps.channels} maps can't be padded to {channels}"
            raise self.builder.refusal(ShapeError(message, way_out))
        if maps.height % stride or maps.width % stride:
            message = (
                f"maps of {maps} can't be pooled by {stride}: their sides are no multiples of it"
            )
            raise self.builder.refusal(ShapeError(message, way_out))
        if stride > 1:
            value = self.builder.add(ops.AvgPool(stride, stride), [value])
        if maps.channels < channels:
            value = self.builder.add(ops.PadChannels(channels), [value])
        return value


def _initial(conv: model.Conv) -> dict[Field, Init]:
    return {Field.WEIGHT: Init.HE_FAN_OUT} if conv.fan_out else {}


def _size(of: TensorType) -> tuple[int, int] | None:
    return (of.height, of.width) if isinstance(of, MapType) else None
