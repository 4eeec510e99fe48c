"""From the lists of ops in a spec to the ops of the model, with the names of their tensors.

- Convolutions: ``w`` on an edge, ``v`` in a layer, with p from 1 if there are several; ``conv1``,
  ``conv2``, … between blocks.
- Normalizations: ``norm1``, ``norm2``, … in a layer and between blocks; ``norm``, then ``norm2``
  on an edge. Batch normalizations before the kernel of an edge cover all that the layer reads over
  such edges: ``norm``, then ``edge_norm2``.
- Biases and gates: ``bias``, then ``bias_2``; ``bias1`` between blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatchmethod

from cliquegraph.blocks import model
from cliquegraph.blocks.model import DropPath, Ops
from cliquegraph.spec import ops as keys
from cliquegraph.spec.ops import AnyOp, OpList

Numbered = Callable[[str, int], str]
"""The role of the p-th op of its sort in a list, from 1."""


def edge_ops(ops: OpList, filters: int | None) -> Ops:
    """Return the ops of an edge to a layer of so many filters."""
    biased = any(isinstance(op, keys.ConvOp) and op.bias for _, op in keys.walk(ops))
    # The bias of an edge without a number is that beside its kernel, if that has one.
    counts = Counter({"bias": 1} if biased else {})
    return _Ops(filters, "w", _of_edge, _convs(ops), counts).convert(ops)


def layer_ops(ops: OpList, filters: int | None) -> Ops:
    """Return the ops of a layer of so many filters."""
    return _Ops(filters, "v", _of_layer, _convs(ops)).convert(ops)


def boundary_ops(ops: OpList) -> Ops:
    """Return the ops of a stem, a transition or a readout."""
    return _Ops(None, None, _of_boundary, _convs(ops)).convert(ops)


def needs_filters(ops: OpList) -> bool:
    """Tell whether any convolution has the width of the layer, or a multiple."""
    return any(
        isinstance(op, keys.ConvOp) and not op.depthwise and not isinstance(op.filters, int)
        for _, op in keys.walk(ops)
    )


def width_behind(ops: Ops, width: int | None) -> int | None:
    """Return the channels behind ops that read so many; None if they are not known."""
    for op in ops:
        if isinstance(op, model.Conv) and not op.depthwise:
            width = op.filters
        elif isinstance(op, model.Skip):
            width = width_behind(op.branch, width)
    return width


def _convs(ops: OpList) -> int:
    return sum(isinstance(op, keys.ConvOp) for _, op in keys.walk(ops))


def _of_edge(sort: str, p: int) -> str:
    if p == 1:
        return "norm" if sort == "norm before" else sort
    # The layer's own are norm1, norm2, …: these are of the layer too, over all that it reads.
    if sort == "norm before":
        return f"edge_norm{p}"
    return f"norm{p}" if sort == "norm" else f"{sort}_{p}"


def _of_layer(sort: str, p: int) -> str:
    if sort == "norm":
        return f"norm{p}"
    return sort if p == 1 else f"{sort}_{p}"


def _of_boundary(sort: str, p: int) -> str:
    return f"{sort}{p}"


@dataclass
class _Ops:
    """One list of ops on its way into the model.

    Attributes:
        filters: the layer's.
        kernel: the role of its convolutions; None: each has its own.
        role: names the other ops.
        convolutions: how many there are.
        counts: how many of each sort came before.
    """

    filters: int | None
    kernel: str | None
    role: Numbered
    convolutions: int
    counts: Counter[str] = field(default_factory=Counter)

    def convert(self, ops: OpList) -> Ops:
        return tuple(op for each in ops for op in self.op(each))

    def _next(self, sort: str) -> str:
        self.counts[sort] += 1
        return self.role(sort, self.counts[sort])

    @singledispatchmethod
    def op(self, op: AnyOp) -> Ops:
        raise TypeError(f"{op!r} is no op")

    @op.register
    def _(self, op: str) -> Ops:
        match op:
            case "norm":
                before = self.kernel == "w" and not self.counts["conv"]
                return (model.Norm(self._next("norm before" if before else "norm")),)
            case "relu":
                return (model.Relu(),)
            case "bias":
                return (model.Bias(self._next("bias")),)
            case "gate":
                return (model.Gate(self._next("gate")),)
            case _:
                raise TypeError(f"{op!r} is no op")

    @op.register
    def _(self, op: keys.ConvOp) -> Ops:
        role = self._next("conv")
        width = op.filters
        if isinstance(width, str):
            assert self.filters is not None  # noqa: S101  # validated with the layer's keys
            width = int(width[1:]) * self.filters
        several = self.kernel is not None and self.convolutions > 1
        return (
            model.Conv(
                op.conv,
                None if op.depthwise else self.filters if width is None else width,
                role=self.kernel or role,
                index=self.counts["conv"] if several else None,
                stride=op.stride,
                reduce=op.reduce,
                bias=op.bias,
                depthwise=op.depthwise,
            ),
        )

    @op.register
    def _(self, op: keys.GroupNormOp) -> Ops:
        return (model.GroupNorm(op.group_norm, self._next("norm")),)

    @op.register
    def _(self, op: keys.LocalResponseOp) -> Ops:
        local = op.local_response
        return (model.LocalResponse(local.size, local.alpha, local.beta),)

    @op.register
    def _(self, op: keys.MaxPoolOp) -> Ops:
        return (model.MaxPool(op.max_pool, op.stride or op.max_pool, op.pad),)

    @op.register
    def _(self, op: keys.AvgPoolOp) -> Ops:
        return (model.AvgPool(op.avg_pool, op.stride or op.avg_pool),)

    @op.register
    def _(self, op: keys.UpsampleOp) -> Ops:
        return (model.Upsample(op.upsample),)

    @op.register
    def _(self, op: keys.DropoutOp) -> Ops:
        return (model.Dropout(op.dropout),) if op.dropout else ()

    @op.register
    def _(self, op: keys.SkipOp) -> Ops:
        shortcut = op.shortcut or "identity"
        return (model.Skip(self.convert(op.skip), shortcut, drop_path(op.drop_path)),)


def drop_path(section: keys.DropPathKeys | None) -> DropPath | None:
    """Return the drop-path of a branch; None without one."""
    if section is None or not section.last:
        return None
    return DropPath(section.last, section.per, section.scale)
