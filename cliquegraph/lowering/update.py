"""One update of a block as operations: edge ops, combine, layer ops (``blocks/model.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from math import prod

from cliquegraph.blocks import model
from cliquegraph.blocks.model import Block, Ops, Read, walk
from cliquegraph.ir import ops
from cliquegraph.ir.builder import Builder
from cliquegraph.ir.names import EDGE_KERNEL, OWN_KERNEL, SPATIAL_KERNEL, value_hint
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, Init, MapType, Section, Slot
from cliquegraph.steps.graph import Step


def lower_step(
    declared: Block, section: Section, step: Step, reads: Sequence[Value], builder: Builder
) -> Value:
    """Lower one update, literally.

    Sources whose edges end in a convolution are concatenated: what stands before it acts on each
    channel alone, so that one convolution with the kernels of all edges is the sum over them.
    Sources that are read as the values themselves are added.

    Args:
        declared: the block.
        section: where it stands.
        step: the update.
        reads: what it reads, in the order of the step's reads.
        builder: takes the nodes.
    """
    value = _Update(declared, section, step, builder).lower(reads)
    stage = step.stage if declared.words.staged else None
    return builder.name(value, value_hint("x", step.layer, stage))


@dataclass(frozen=True)
class _Update:
    """One update.

    Attributes:
        mask: of the branch that is lowered, where whole batches leave it out.
    """

    declared: Block
    section: Section
    step: Step
    builder: Builder
    mask: Value | None = None

    def lower(self, values: Sequence[Value]) -> Value:
        layer = self.declared.layer(self.step.layer)
        ways = {read.source: read for read in layer.reads}
        reads = [ways[feature.layer] for feature in self.step.reads]
        (ops_of_edges,) = {read.ops for read in reads}
        value = self._edges(ops_of_edges, reads, values)
        return self._run(layer.ops, value)

    def _edges(self, edge: Ops, reads: Sequence[Read], values: Sequence[Value]) -> Value:
        """Concatenate what is read by kernels, and convolve that; add what is read itself."""
        if not edge:
            return self._sum(values)
        *before, last = edge
        assert isinstance(last, model.Conv)  # noqa: S101  # the kinds that there are have one
        value = self.builder.add(ops.Concat(), values)
        for op in before:
            value = self.apply(op, value)
        convolution = ops.Conv(last.filters, last.kernel)
        if last.role != EDGE_KERNEL:
            return self.builder.add(convolution, [value], slot=self._kernel(last))
        slots = [self._slot(EDGE_KERNEL, source=read.source) for read in reads]
        return self.builder.add_edges(convolution, value, values, slots)

    def _slot(self, role: str, source: int | None = None) -> Slot:
        return Slot(self.section, role, self.step.layer, source=source)

    def _sum(self, values: Sequence[Value]) -> Value:
        return values[0] if len(values) == 1 else self.builder.add(ops.Add(), values)

    def _kernel(self, conv: model.Conv) -> Slot:
        once = self.declared.schedule.stages == 1  # no stages share it
        own = conv.role == SPATIAL_KERNEL and conv.index is not None and once
        return replace(self._slot(OWN_KERNEL if own else conv.role), index=conv.index)

    def _stride(self, conv: model.Conv) -> int:
        """The block's, of a convolution that takes it, where the update reads X0."""
        reads_x0 = any(feature.layer == 0 for feature in self.step.reads)
        return self.declared.stride if conv.reduce and reads_x0 else conv.stride

    @singledispatchmethod
    def apply(self, op: object, value: Value) -> Value:
        """Apply one op to maps; each kind of op registers its own way."""
        raise TypeError(f"no operation for {type(op).__name__}")

    @apply.register
    def _(self, op: model.Norm, value: Value) -> Value:
        stage = self.declared.norm_stage(self.step.stage)
        slot = Slot(self.section, op.role, self.step.layer, stage)
        init = {Field.SCALE: Init.ZEROS} if op.zero else {}
        read = [value] if self.mask is None else [value, self.mask]
        return self.builder.add(ops.BatchNorm(), read, slot=slot, init=init)

    @apply.register
    def _(self, op: model.Relu, value: Value) -> Value:
        return self.builder.add(ops.Relu(), [value])

    @apply.register
    def _(self, op: model.Conv, value: Value) -> Value:
        convolution = ops.Conv(op.filters, op.kernel, self._stride(op))
        init = _initial(op)
        return self.builder.add(convolution, [value], slot=self._kernel(op), init=init)

    @apply.register
    def _(self, op: model.Dropout, value: Value) -> Value:
        return self.builder.add(ops.Dropout(op.rate), [value])

    @apply.register
    def _(self, op: model.Skip, value: Value) -> Value:
        branch = self._branch(op, value)
        return self._sum([branch, self._shortcut(op, value, branch)])

    def _branch(self, skip: model.Skip, value: Value) -> Value:
        """The branch of a skip; one that is left out at random, times its mask."""
        drop = skip.drop
        if drop is None:
            return self._run(skip.branch, value)
        mask = self.builder.add(ops.Keep(drop.rate, drop.per == "image"), [value], hint="keep")
        inside = replace(self, mask=mask) if drop.per == "batch" else self
        branch = inside._run(skip.branch, value)
        return self.builder.add(ops.DropPath(drop.rate, drop.scale), [branch, mask])

    def _run(self, branch: Ops, value: Value) -> Value:
        for op in branch:
            value = self.apply(op, value)
        return value

    def _shortcut(self, skip: model.Skip, value: Value, branch: Value) -> Value:
        """What a skip adds to its branch: the value, or one of the branch's channels and size."""
        if value.type == branch.type:
            return value
        kernels = [op for op in walk(skip.branch) if isinstance(op, model.Conv)]
        stride = prod(map(self._stride, kernels))
        channels = branch.type.channels
        if skip.shortcut == "pad":
            return self._padded(value, stride, channels)
        slot = self._slot("shortcut.conv")
        init = _initial(kernels[-1])  # as the branch's own
        value = self.builder.add(ops.Conv(channels, 1, stride), [value], slot=slot, init=init)
        return self.builder.add(ops.BatchNorm(), [value], slot=self._slot("shortcut.norm"))

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
