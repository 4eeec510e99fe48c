"""Which widths the instances of one class share, and what the others are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cliquegraph.emit.names import Namespace
from cliquegraph.emit.things import (
    BiasedKernel,
    ChannelAffine,
    Dense,
    Dim,
    FanOutKernel,
    Kernel,
    Member,
    Norm,
    Normalizer,
    Statistics,
    Thing,
    ZeroNorm,
)

_WIDTHS: dict[type[Thing], tuple[str, ...]] = {
    Norm: ("channels",),
    ZeroNorm: ("channels",),
    Normalizer: ("channels",),
    Statistics: ("channels",),
    ChannelAffine: ("channels",),
    Kernel: ("channels", "filters"),
    FanOutKernel: ("channels", "filters"),
    BiasedKernel: ("channels", "filters"),
    Dense: ("inputs", "outputs"),
}
_NAMES = {
    ("mid_norm", "channels"): "filters",  # of the 1×1 convolution before it
    ("moments", "channels"): "filters",  # of the convolution whose maps they are of
    ("attention_fc1", "outputs"): "hidden",
}


@dataclass(frozen=True)
class SharedWidths:
    """Members of a class for several sections.

    Attributes:
        members: with a name in place of each width in which the sections differ.
        names: the names, in the order of first use.
        arguments: for each section, the values of ``names``.
    """

    members: tuple[Member, ...]
    names: tuple[str, ...]
    arguments: tuple[tuple[int, ...], ...]


def shared_widths(instances: Sequence[tuple[Member, ...]]) -> SharedWidths:
    """Compare the members of sections that are alike but for widths.

    Widths that are equal in every section stay numbers; those that go together in every section
    become one argument.
    """
    namespace = Namespace()
    arguments: dict[tuple[Dim, ...], str] = {}
    members = []
    for position, member in enumerate(instances[0]):
        changes: dict[str, str] = {}
        for width in _WIDTHS.get(type(member.thing), ()):
            column = tuple(getattr(instance[position].thing, width) for instance in instances)
            if len(set(column)) == 1:
                continue
            if column not in arguments:
                arguments[column] = namespace.unique(_NAMES.get((member.name, width), width))
            changes[width] = arguments[column]
        # The names of the changed fields come from _WIDTHS, which mypy can't follow.
        thing: Any = member.thing
        members.append(replace(member, thing=replace(thing, **changes)))
    return SharedWidths(
        members=tuple(members),
        names=tuple(arguments.values()),
        arguments=tuple(
            tuple(int(column[i]) for column in arguments) for i in range(len(instances))
        ),
    )
