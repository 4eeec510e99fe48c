"""Declared ops as nodes of the op graph, at their site: on an edge, in a layer, between blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from math import prod

from cliquegraph.blocks import model
from cliquegraph.blocks.model import Ops, walk
from cliquegraph.ir import ops
from cliquegraph.ir.builder import Builder, TensorPart
from cliquegraph.ir.names import BIAS, EDGE_KERNEL, SPATIAL_KERNEL
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import Field, Init, MapType, Section, Slot


@dataclass(frozen=True)
class Site:
    """Where ops are applied, which determines the tensors that they read.

    Attributes:
        section: the section.
        layer: the layer that is updated; None between blocks.
        stage: the stage in the names of normalizations, if they have one.
        staged: whether kernels, biases and gates are shared by stages.
        shared_norms: whether normalizations are.
        stride: the stride of ops that ``reduce``.
        source: the source of a single edge.
        number: on an edge, its number, from 1, among the layer's edges with tensors of their own
            besides their kernels, if there are several.
        spans: on edges, their channels of each normalization that covers other edges too, by its
            role.
        after_kernel: on an edge after its kernel, where normalizations cover this edge alone.
        can_project: whether a skip here may have a projection.
    """

    section: Section
    layer: int | None = None
    stage: int | None = None
    staged: bool = False
    shared_norms: bool = False
    stride: int = 1
    source: int | None = None
    number: int | None = None
    spans: Mapping[str, TensorPart] = field(default_factory=dict)
    after_kernel: bool = False
    can_project: bool = False

    def stride_of(self, conv: model.Conv) -> int:
        """Return the stride of a convolution: the block's, if it reduces."""
        return self.stride if conv.reduce else conv.stride

    def kernel(self, conv: model.Conv, source: int | None = None) -> Slot:
        """Return the slot of a kernel; of a pair's, if a source is given."""
        if source is not None and conv.role == EDGE_KERNEL:
            slot = Slot(self.section, EDGE_KERNEL, self.layer, source=source, shared=True)
        else:
            of_stages = conv.role == SPATIAL_KERNEL or self.layer is None
            shared = of_stages and self.staged
            slot = Slot(self.section, conv.role, self.layer, shared=shared)
        return replace(slot, index=conv.index)

    def norm(self, op: model.Norm | model.GroupNorm) -> Slot:
        """Return the slot of a normalization."""
        slot = Slot(self.section, op.role, self.layer, self.stage, shared=self.shared_norms)
        if self.after_kernel or (self.source is not None and isinstance(op, model.GroupNorm)):
            return replace(slot, source=self.source, index=self.number)
        return slot

    def weight(self, role: str) -> Slot:
        """Return the slot of a bias or a gate."""
        slot = Slot(self.section, role, self.layer, shared=self.staged)
        return slot if self.source is None else replace(slot, source=self.source, index=self.number)


@dataclass
class OpLowering:
    """Appends the nodes of ops.

    Attributes:
        builder: the nodes are appended to it.
        mask: the mask of the enclosing branch, if it is dropped for whole batches.
        column: the column that the network keeps in a batch, if one is drawn.
        projections: how many skips have a projection so far.
    """

    builder: Builder
    mask: Value | None = None
    column: Value | None = None
    projections: int = 0

    def run(self, each: Ops, value: Value, site: Site) -> Value:
        """Apply ops in order; after its kernel, an edge has normalizations of its own."""
        for op in each:
            value = self.apply(op, value, site)
            if site.source is not None and any(isinstance(o, model.Conv) for o in walk((op,))):
                site = replace(site, after_kernel=True)
        return value

    def sum(self, values: list[Value]) -> Value:
        """Return the sum of values, or the only one."""
        return values[0] if len(values) == 1 else self.builder.add(ops.Add(), values)

    def join(self, values: list[Value], drop: model.JoinDrop) -> Value:
        """Return the mean of values with drop-path; ``drop.columns`` are theirs."""
        read = values[:1]
        columns: tuple[int, ...] = ()
        if drop.global_:
            assert self.column is not None  # noqa: S101  # drawn for such joins
            read = [*read, self.column]
            columns = tuple(column for column in drop.columns if column is not None)
        op = ops.JoinWeights(drop.local, len(values), columns)
        weights = self.builder.add(op, read, hint="weights")
        return self.builder.add(ops.WeightedMean(), [*values, weights])

    @singledispatchmethod
    def apply(self, op: object, value: Value, site: Site) -> Value:
        """Append the nodes of one op; each kind of op registers a method."""
        raise TypeError(f"no operation for {type(op).__name__}")

    @apply.register
    def _(self, op: model.Norm, value: Value, site: Site) -> Value:
        init = {Field.SCALE: Init.ZEROS} if op.zero else {}
        part = None if site.after_kernel else site.spans.get(op.role)
        read = [value] if self.mask is None else [value, self.mask]
        return self.builder.add(ops.BatchNorm(), read, slot=site.norm(op), init=init, part=part)

    @apply.register
    def _(self, op: model.GroupNorm, value: Value, site: Site) -> Value:
        return self.builder.add(ops.GroupNorm(op.groups), [value], slot=site.norm(op))

    @apply.register
    def _(self, op: model.Relu, value: Value, site: Site) -> Value:
        return self.builder.add(ops.Relu(), [value])

    @apply.register
    def _(self, op: model.Bias, value: Value, site: Site) -> Value:
        return self.builder.add(ops.Bias(), [value], slot=site.weight(op.role))

    @apply.register
    def _(self, op: model.Gate, value: Value, site: Site) -> Value:
        return self.builder.add(ops.Gate(), [value], slot=site.weight(op.role))

    @apply.register
    def _(self, op: model.LocalResponse, value: Value, site: Site) -> Value:
        return self.builder.add(ops.LocalResponse(op.size, op.alpha, op.beta), [value])

    @apply.register
    def _(self, op: model.MaxPool, value: Value, site: Site) -> Value:
        return self.builder.add(ops.MaxPool(op.kernel, op.stride, op.padding), [value])

    @apply.register
    def _(self, op: model.AvgPool, value: Value, site: Site) -> Value:
        return self.builder.add(ops.AvgPool(op.kernel, op.stride), [value])

    @apply.register
    def _(self, op: model.Upsample, value: Value, site: Site) -> Value:
        return self.builder.add(ops.Upsample(op.factor), [value])

    @apply.register
    def _(self, op: model.Conv, value: Value, site: Site) -> Value:
        slot, init = site.kernel(op, site.source), initial(op)
        # A kernel that stages share is an array by itself, and so is its bias.
        inside = op.bias and not slot.shared
        convolution = ops.Conv(
            value.type.channels if op.filters is None else op.filters,
            op.kernel,
            site.stride_of(op),
            bias=inside,
            depthwise=op.depthwise,
        )
        value = self.builder.add(convolution, [value], slot=slot, init=init)
        if not op.bias or inside:
            return value
        bias = replace(slot, role=f"{slot.role}.{BIAS}")
        return self.builder.add(ops.Bias(), [value], slot=bias)

    @apply.register
    def _(self, op: model.Dropout, value: Value, site: Site) -> Value:
        return self.builder.add(ops.Dropout(op.rate), [value])

    @apply.register
    def _(self, op: model.Skip, value: Value, site: Site) -> Value:
        branch = self._branch(op, value, site)
        shortcut = self._shortcut(op, value, branch, site)
        if shortcut.type != branch.type:
            message = f"a skip's branch is {branch.type}, and its shortcut {shortcut.type}"
            hint = "pad convolutions and pools of the branch, so that strides alone change its size"
            raise self.builder.refusal(ShapeError(message, hint))
        return self.sum([branch, shortcut])

    def _branch(self, skip: model.Skip, value: Value, site: Site) -> Value:
        """The branch of a skip; with drop-path, times its mask."""
        drop = skip.drop
        if drop is None:
            return self.run(skip.branch, value, site)
        mask = self.builder.add(ops.Keep(drop.rate, drop.per == "image"), [value], hint="keep")
        outer, self.mask = self.mask, mask if drop.per == "batch" else self.mask
        branch = self.run(skip.branch, value, site)
        self.mask = outer
        return self.builder.add(ops.DropPath(drop.rate, drop.scale), [branch, mask])

    def _shortcut(self, skip: model.Skip, value: Value, branch: Value, site: Site) -> Value:
        """The shortcut of a skip: the value, brought to the channels and size of the branch."""
        if value.type == branch.type:
            return value
        stride = prod(_stride(op, site) for op in walk(skip.branch))
        channels = branch.type.channels
        upsampled = any(isinstance(op, model.Upsample) for op in walk(skip.branch))
        if skip.shortcut == "identity" or upsampled:
            message = f"a skip takes {value.type} to {branch.type}, and can't add the two"
            hint = "let channels and sizes agree"
            hint += "" if upsampled else ", or write shortcut: projection or pad"
            raise self.builder.refusal(ShapeError(message, hint))
        if skip.shortcut == "pad":
            return self._pad_shortcut(value, stride, channels)
        kernels = [op for op in walk(skip.branch) if isinstance(op, model.Conv)]
        self._require_one_projection(value, branch, site)
        conv, norm = (
            Slot(site.section, f"shortcut.{role}", site.layer, site.stage)
            for role in ("conv", "norm")
        )
        init = initial(kernels[-1]) if kernels else {}  # as the branch's own
        value = self.builder.add(ops.Conv(channels, 1, stride), [value], slot=conv, init=init)
        return self.builder.add(ops.BatchNorm(), [value], slot=norm)

    def _require_one_projection(self, value: Value, branch: Value, site: Site) -> None:
        """Refuse a projection whose tensors another would share, by their names."""
        self.projections += 1
        if site.can_project and self.projections == 1:
            return
        where = f"X{site.layer}" if site.layer else str(site.section)
        message = f"a skip of {where} takes {value.type} to {branch.type}"
        if site.layer is None:
            rule = "a skip between blocks can't project"
        elif site.source is not None:
            rule = "a skip on an edge can't project"
        else:
            rule = "an update has one projection, in stage 1"
        hint = "let channels and sizes agree, or write shortcut: pad"
        raise self.builder.refusal(ShapeError(f"{message}; {rule}", hint))

    def _pad_shortcut(self, value: Value, stride: int, channels: int) -> Value:
        """Average-pool by the stride, then pad with zero maps."""
        maps, hint = value.type, "write shortcut: projection"
        assert isinstance(maps, MapType)  # noqa: S101  # ops are applied to maps
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


def _stride(op: model.Op, site: Site) -> int:
    """The stride of an op; that of a convolution that reduces is the block's."""
    if isinstance(op, model.Conv):
        return site.stride_of(op)
    return op.stride if isinstance(op, model.MaxPool | model.AvgPool) else 1


def initial(conv: model.Conv) -> dict[Field, Init]:
    """Return a kernel's initialization, where that is not the op's default."""
    return {Field.WEIGHT: Init.HE_FAN_OUT} if conv.fan_out else {}


def has_tensors_besides_kernel(each: Ops) -> bool:
    """Tell whether an edge has tensors of its own besides its kernel, such as a gate."""
    seen_kernel = False
    for op in walk(each):
        if isinstance(op, model.Bias | model.Gate | model.GroupNorm):
            return True
        if isinstance(op, model.Norm) and seen_kernel:
            return True
        seen_kernel |= isinstance(op, model.Conv)
    return False
