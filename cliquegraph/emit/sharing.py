"""The class that several sections share, and the arguments in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cliquegraph.emit.dims import Dim, Width
from cliquegraph.emit.members import member_of
from cliquegraph.emit.names import Namespace
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    BranchNorm,
    ChannelAffine,
    ChannelBias,
    Child,
    ColumnJoinDrop,
    Dense,
    DepthwiseKernel,
    FanOutKernel,
    GroupNormalizer,
    ImageBranchDrop,
    JoinDrop,
    Kernel,
    KernelWithBias,
    Member,
    Norm,
    Normalizer,
    Statistics,
    Thing,
    ZeroBranchNorm,
    ZeroNorm,
)
from cliquegraph.emit.view import Body, ClassView
from cliquegraph.emit.widths import HIDDEN, IN, OUT, RATE
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import FILLS

_WIDTHS: dict[type[Thing], tuple[str, ...]] = {
    Norm: ("channels",),
    ZeroNorm: ("channels",),
    BranchNorm: ("channels",),
    ZeroBranchNorm: ("channels",),
    BranchDrop: ("rate",),
    ImageBranchDrop: ("rate",),
    JoinDrop: ("rate",),
    ColumnJoinDrop: ("rate",),
    Normalizer: ("channels",),
    Statistics: ("channels",),
    GroupNormalizer: ("channels",),
    ChannelBias: ("channels",),
    ChannelAffine: ("channels",),
    Kernel: ("channels", "filters"),
    FanOutKernel: ("channels", "filters"),
    KernelWithBias: ("channels", "filters"),
    DepthwiseKernel: ("channels",),
    BiasedKernel: ("channels", "filters"),
    Dense: ("inputs", "outputs"),
}
_STRIDE = "stride"

Column = tuple[Dim, ...]
"""One number per section, for the sections that share a class."""


class Arguments:
    """The arguments of a constructor, with their values for each section."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._columns: dict[Column, str] = {}

    def name(self, column: Column, base: str) -> str:
        """Return the name of a column's argument; equal columns are one argument."""
        if column not in self._columns:
            self._columns[column] = self._namespace.unique(base)
        return self._columns[column]

    @property
    def names(self) -> tuple[str, ...]:
        """Input widths, output widths, others in the order of first use, then rates."""
        return tuple(name for _, name in self._sorted)

    def of(self, section: int) -> tuple[Dim, ...]:
        """Return the arguments of one of the sections."""
        return tuple(column[section] for column, _ in self._sorted)

    @property
    def _sorted(self) -> list[tuple[Column, str]]:
        def place(item: tuple[Column, str]) -> tuple[bool, bool, bool]:
            return item[1].startswith(RATE), item[1] != IN, item[1] != OUT

        return sorted(self._columns.items(), key=place)


@dataclass(frozen=True)
class Instance:
    """The members of a class for one of the sections or updates that share it.

    Attributes:
        members: with their widths.
        reads, writes: the widths of inputs and results.
        fills: the channels of zeros that nodes write.
    """

    members: tuple[Member, ...]
    reads: Dim
    writes: Dim
    fills: Mapping[Node, Dim]


@dataclass(frozen=True)
class SharedMembers:
    """Members of a class, with an argument for each number in which the sections differ."""

    members: tuple[Member, ...]
    widths: Arguments
    strides: Arguments
    fills: Mapping[Node, str]

    def child(self, class_name: str, section: int) -> Child:
        """Return the instance of one of the sections."""
        strides = tuple(zip(self.strides.names, self.strides.of(section), strict=True))
        return Child(class_name, self.widths.of(section), strides)

    def argument(self, node: Node) -> str | None:
        """Return the argument for a member's stride, or for the channels of zeros."""
        if isinstance(node.op, FILLS):
            return self.fills.get(node)
        member = member_of(node)
        things = (each.thing for each in self.members if member and each.name == member.name)
        stride = getattr(next(things, None), _STRIDE, None)
        return stride if isinstance(stride, str) else None


def shared_members(instances: Sequence[Instance]) -> SharedMembers:
    """Merge the members of sections that differ only in widths and strides.

    Numbers that are equal in every section stay numbers.
    """
    namespace = Namespace()
    widths, strides = Arguments(namespace), Arguments(namespace)

    def column(read: Callable[[Instance], Dim]) -> Column:
        return tuple(read(instance) for instance in instances)

    reads, writes = column(lambda i: i.reads), column(lambda i: i.writes)
    usual = {writes: OUT, reads: "channels" if reads == writes else IN}
    members = []
    for position, member in enumerate(instances[0].members):
        changes: dict[str, str] = {}
        for field in (*_WIDTHS.get(type(member.thing), ()), _STRIDE):
            if not hasattr(member.thing, field):
                continue
            dims = column(lambda i: getattr(i.members[position].thing, field))  # noqa: B023
            if len(set(dims)) == 1 and not isinstance(dims[0], Width):
                continue
            if field == _STRIDE:
                changes[field] = strides.name(dims, _STRIDE)
            else:
                other = RATE if field == "rate" else HIDDEN
                changes[field] = widths.name(dims, usual.get(dims, other))
        # mypy can't check fields by name.
        thing: Any = member.thing
        members.append(replace(member, thing=replace(thing, **changes)))
    fills = {}
    columns = zip(*(instance.fills.values() for instance in instances), strict=True)
    for node, dims in zip(instances[0].fills, columns, strict=True):
        if len(set(dims)) > 1 or not isinstance(dims[0], int):
            fills[node] = widths.name(dims, usual.get(dims, HIDDEN))
    return SharedMembers(tuple(members), widths, strides, fills)


def without_strides(view: ClassView) -> ClassView:
    """Return a block's class without strides, equal for blocks that can share a class."""
    return _replace_strides(view, lambda position, name, stride: 0)


def shared_blocks(views: Sequence[ClassView]) -> tuple[ClassView, Arguments]:
    """Merge the classes of blocks that are equal ``without_strides``.

    Returns:
        The shared class, and its strides.
    """
    columns: dict[tuple[int, str], list[Dim]] = {}

    def collect(position: int, name: str, stride: Dim) -> Dim:
        columns.setdefault((position, name), []).append(stride)
        return stride

    for view in views:
        _replace_strides(view, collect)
    first = views[0]
    strides = Arguments(Namespace(first.widths))

    def shared(position: int, name: str, stride: Dim) -> Dim:
        column = tuple(columns[position, name])
        return stride if len(set(column)) == 1 else strides.name(column, _STRIDE)

    view = _replace_strides(first, shared)
    return replace(view, strides=strides.names, body=_merge_origins(views)), strides


def _merge_origins(views: Sequence[ClassView]) -> Body:
    """The body of equal classes, with the origins of all in its statements."""
    body = views[0].body
    columns = zip(*(view.body.statements for view in views), strict=True)
    statements = tuple(
        replace(each[0], origins=tuple(dict.fromkeys(o for one in each for o in one.origins)))
        for each in columns
    )
    return replace(body, statements=statements)


def _replace_strides(view: ClassView, change: Callable[[int, str, Dim], Dim]) -> ClassView:
    """Return a class with other strides of its members, by position and name."""
    position = 0
    groups = []
    for group in view.groups:
        members = []
        for member in group.members:
            position += 1
            thing = member.thing
            if isinstance(thing, Child):
                changed = tuple((n, change(position, n, stride)) for n, stride in thing.strides)
                member = replace(member, thing=replace(thing, strides=changed))
            members.append(member)
        groups.append(replace(group, members=tuple(members)))
    return replace(view, groups=tuple(groups))
