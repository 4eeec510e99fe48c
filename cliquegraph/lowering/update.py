"""One update of a block as operations: edge ops, combine, layer ops (``blocks/model.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatchmethod

from cliquegraph.blocks import model
from cliquegraph.blocks.model import Block, Ops, Read
from cliquegraph.ir import ops
from cliquegraph.ir.builder import Builder
from cliquegraph.ir.names import EDGE_KERNEL, value_hint
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.types import Section, Slot
from cliquegraph.steps.graph import Step


def lower_step(
    declared: Block, section: Section, step: Step, reads: Sequence[Value], builder: Builder
) -> Value:
    """Lower one update, literally.

    Sources whose edges end in a convolution are concatenated: what stands before it acts on each
    channel alone, so that one convolution with the kernels of all edges is the sum over them.

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
    declared: Block
    section: Section
    step: Step
    builder: Builder

    def lower(self, values: Sequence[Value]) -> Value:
        layer = self.declared.layer(self.step.layer)
        ways = {read.source: read for read in layer.reads}
        reads = [ways[feature.layer] for feature in self.step.reads]
        (ops_of_edges,) = {read.ops for read in reads}
        value = self._edges(ops_of_edges, reads, values)
        for op in layer.ops:
            value = self.apply(op, value)
        return value

    def _edges(self, edge: Ops, reads: Sequence[Read], values: Sequence[Value]) -> Value:
        """Concatenate what is read by kernels, and convolve that."""
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

    def _kernel(self, conv: model.Conv) -> Slot:
        return self._slot(conv.role)

    @singledispatchmethod
    def apply(self, op: object, value: Value) -> Value:
        """Apply one op to maps; each kind of op registers its own way."""
        raise TypeError(f"no operation for {type(op).__name__}")

    @apply.register
    def _(self, op: model.Norm, value: Value) -> Value:
        stage = self.declared.norm_stage(self.step.stage)
        slot = Slot(self.section, op.role, self.step.layer, stage)
        return self.builder.add(ops.BatchNorm(), [value], slot=slot)

    @apply.register
    def _(self, op: model.Relu, value: Value) -> Value:
        return self.builder.add(ops.Relu(), [value])

    @apply.register
    def _(self, op: model.Conv, value: Value) -> Value:
        convolution = ops.Conv(op.filters, op.kernel, op.stride)
        return self.builder.add(convolution, [value], slot=self._kernel(op))

    @apply.register
    def _(self, op: model.Dropout, value: Value) -> Value:
        return self.builder.add(ops.Dropout(op.rate), [value])
