"""The members that hold nodes' tensors, and the signatures of regions that share a class."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import fields
from functools import singledispatch
from itertools import count

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.dims import ratio
from cliquegraph.emit.names import argument_names, is_bare, member_name
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    BranchNorm,
    ChannelAffine,
    ChannelBias,
    ColumnDraw,
    ColumnJoinDrop,
    Dense,
    DepthwiseKernel,
    Drop,
    FanOutKernel,
    GroupNormalizer,
    ImageBranchDrop,
    JoinDrop,
    Kernel,
    KernelBank,
    KernelWithBias,
    Member,
    Norm,
    Normalizer,
    ScalarGate,
    SharedKernel,
    Statistics,
    Thing,
    ZeroBranchNorm,
    ZeroNorm,
)
from cliquegraph.emit.view import BankSlice, Expression, Own
from cliquegraph.emit.widths import BlockWidths, Numbers
from cliquegraph.ir import ops
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.types import Bank, Biased, Field, Init, MomentsType, Param, Slot

NUMBERS = Numbers()


def member_of(node: Node, widths: Numbers = NUMBERS) -> Member | None:
    """Return the member that holds a node's tensors, or None for an op without any."""
    thing = thing_of(node.op, node, widths)
    if thing is None:
        return None
    if isinstance(node.op, ops.Keep):
        return Member(ops.DropPath.mnemonic, thing)
    name = member_name(node.operands[0].param.slot) if node.operands else node.op.mnemonic
    return Member(name, thing)


def members_of(nodes: Iterable[Node], widths: Numbers = NUMBERS) -> tuple[Member, ...]:
    """Return the members of several nodes in the order of first use, each once."""
    members: dict[str, tuple[Member, tuple[Param, ...]]] = {}
    for node in nodes:
        if member := member_of(node, widths):
            held = tuple(operand.param for operand in node.operands)
            _, other = members.setdefault(member.name, (member, held))
            if other != held:
                raise VerificationError(f"{node.origin}: two members are called {member.name}")
    return tuple(member for member, _ in members.values())


def shared_slot(node: Node) -> Slot | None:
    """Return the slot of the tensors that a node shares with other stages, if it does."""
    slot = node.operands[0].param.slot if node.operands else None
    return slot if slot is not None and slot.shared else None


def arguments_of(nodes: Iterable[Node]) -> dict[Slot, str]:
    """Return the names of the arguments of nodes that share tensors with other stages."""
    return argument_names(slot for node in nodes if (slot := shared_slot(node)))


@singledispatch
def thing_of(op: ops.Op, node: Node, widths: Numbers) -> Thing | None:
    """Return what holds a node's tensors; an op with a member of its own registers it."""
    return None


@thing_of.register
def _(op: ops.BatchNorm, node: Node, widths: Numbers) -> Thing:
    kinds = (BranchNorm, ZeroBranchNorm) if len(node.inputs) > 1 else (Norm, ZeroNorm)
    factory = kinds[_starts_as(node, Field.SCALE, Init.ZEROS)]
    return factory(widths.of(node.inputs[0]), op.eps, op.momentum)


@thing_of.register
def _(op: ops.Moments, node: Node, widths: Numbers) -> Thing:
    return Statistics(widths.of(node.inputs[0]), op.momentum)


@thing_of.register
def _(op: ops.Normalize, node: Node, widths: Numbers) -> Thing:
    return Normalizer(widths.of(node.inputs[0]), op.eps)


@thing_of.register
def _(op: ops.GroupNorm, node: Node, widths: Numbers) -> Thing:
    return GroupNormalizer(widths.of(node.inputs[0]), op.groups, op.eps)


@thing_of.register
def _(op: ops.Bias, node: Node, widths: Numbers) -> Thing:
    return ChannelBias(widths.of(node.inputs[0]))


@thing_of.register
def _(op: ops.Gate, node: Node, widths: Numbers) -> Thing:
    return ScalarGate()


@thing_of.register
def _(op: ops.Affine, node: Node, widths: Numbers) -> Thing:
    return ChannelAffine(widths.of(node.inputs[0]))


@thing_of.register
def _(op: ops.Conv, node: Node, widths: Numbers) -> Thing:
    operand = node.operands[0]  # after the pack pass there is one kernel
    channels, filters = widths.of(node.inputs[0]), widths.of(node.output)
    if isinstance(operand.param, Bank):
        pieces = operand.param.pieces
        # A second kernel of an edge reads what the first wrote.
        sources = tuple(map(widths.piece, pieces)) if len(pieces) > 1 else (channels,)
        return KernelBank(sources, filters, op.kernel)
    windows = (op.kernel, op.stride, op.padding)
    if isinstance(operand.param, Biased) and not op.depthwise:
        return BiasedKernel(channels, filters, *windows)
    if shared_slot(node) is not None:
        return SharedKernel(1 if op.depthwise else channels, filters, op.kernel)
    fan_out = _starts_as(node, Field.WEIGHT, Init.HE_FAN_OUT)
    if op.depthwise:
        return DepthwiseKernel(channels, *windows, op.bias, fan_out)
    if op.bias:
        return KernelWithBias(channels, filters, *windows, fan_out)
    return (FanOutKernel if fan_out else Kernel)(channels, filters, *windows)


@thing_of.register
def _(op: ops.Linear, node: Node, widths: Numbers) -> Thing:
    return Dense(widths.of(node.inputs[0]), widths.of(node.output))


@thing_of.register
def _(op: ops.Dropout, node: Node, widths: Numbers) -> Thing:
    return Drop(op.rate)


@thing_of.register
def _(op: ops.Keep, node: Node, widths: Numbers) -> Thing:
    return (ImageBranchDrop if op.per_image else BranchDrop)(ratio(op.rate))


@thing_of.register
def _(op: ops.DrawColumn, node: Node, widths: Numbers) -> Thing:
    return ColumnDraw(op.rate, op.columns)


@thing_of.register
def _(op: ops.JoinWeights, node: Node, widths: Numbers) -> Thing:
    rate = ratio(op.rate)
    return ColumnJoinDrop(rate, op.columns) if op.columns else JoinDrop(rate, op.count)


def _starts_as(node: Node, field: Field, init: Init) -> bool:
    """Whether the tensors of one field of a node have an initialization."""
    return any(
        piece.tensor.init is init
        for operand in node.operands
        if operand.param.field is field
        for piece in operand.param.pieces
    )


def own_member(node: Node) -> tuple[Expression, ...]:
    """Return a node's member as an expression within its class."""
    if isinstance(node.op, ops.DropPath):
        return (Own(node.op.mnemonic),)  # the member that drew the mask
    member = member_of(node)
    return (Own(member.name),) if member is not None else ()


def shared_operand(node: Node, widths: BlockWidths) -> Expression:
    """Return what a node shares with other stages, as an expression in the block.

    A slice of an array, or a layer.
    """
    operand, *_ = node.operands
    param = operand.param
    if not is_bare(param.slot):
        return Own(member_name(param.slot))
    start = widths.first(param, operand.start) if operand.start else None
    stop = None if operand.stop == param.extent else widths.first(param, operand.stop)
    return BankSlice(member_name(param.slot), start, stop)


def free_inputs(nodes: Sequence[Node]) -> tuple[Value, ...]:
    """Return the values that nodes read but do not write, in the order of first use."""
    written = {value for node in nodes for value in node.outputs}
    return tuple(
        dict.fromkeys(value for node in nodes for value in node.inputs if value not in written)
    )


def gathers(node: Node, free: Sequence[Value]) -> bool:
    """Tell whether a node concatenates only values from outside its region."""
    return isinstance(node.op, ops.Concat) and all(value in free for value in node.inputs)


def signature(nodes: Sequence[Node]) -> Hashable:
    """Return a key that is equal for regions that differ only in widths and strides."""
    free = free_inputs(nodes)
    listed = {value for node in nodes if gathers(node, free) for value in node.inputs}
    several = len({node.inputs for node in nodes if gathers(node, free)}) > 1
    maps = [value for value in free if not isinstance(value.type, MomentsType)]
    place: dict[Value, int] = {
        value: -1 - position
        for position, value in enumerate(v for v in maps if several or v not in listed)
    }
    written = count()
    parts: list[Hashable] = []
    for node in nodes:
        member = member_of(node)
        ignored = {"channels", "filters"} if isinstance(node.op, ops.FILLS) else set()
        ignored |= {"stride"} if member is not None and hasattr(member.thing, "stride") else set()
        attributes = tuple(
            (field.name, getattr(node.op, field.name))
            for field in fields(node.op)
            if field.name not in ignored.union(node.op.widths, node.op.rates)
        )
        inputs: Hashable = tuple(place.get(value) for value in node.inputs)
        if gathers(node, free) and not several:
            inputs = "sources"
        elif isinstance(node.op, ops.Normalize):
            inputs = place.get(node.inputs[0])  # the moments are those of its maps
        slot = node.operands[0].param.slot if node.operands else None
        role: Hashable = None
        if slot is not None:
            # Arguments are numbered in the order of use.
            index = None if slot.shared else slot.index
            role = (slot.role, slot.shared, index, slot.source is None)
        fan_out = member is not None and getattr(member.thing, "fan_out", False)
        thing = None if member is None else (type(member.thing), fan_out)
        parts.append((node.op.mnemonic, attributes, inputs, role, thing, node.recompute))
        for value in node.outputs:
            place[value] = next(written)
    return tuple(parts)
