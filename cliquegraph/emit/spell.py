"""From statements and members to lines of source; a backend gives the words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from cliquegraph.emit.code import WIDTH, Bracket, Code, Text, call, comment, layout, listing
from cliquegraph.emit.things import Child, MemberGroup, Thing
from cliquegraph.emit.view import (
    Apply,
    BankSlice,
    Body,
    CallChild,
    Expression,
    Feature,
    Kind,
    Local,
    MapsOf,
    Own,
    Sources,
    Statement,
    Unit,
    Variable,
)

_LONG = 52  # a longer type would not fit the line of a signature


class Speller(ABC):
    """How one framework spells what every backend writes.

    ``tensor`` is the framework's type of an array, ``call_method`` what a module's call runs,
    ``init_inputs`` what every constructor takes before its widths.
    """

    tensor: ClassVar[str]
    call_method: ClassVar[str]
    init_inputs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def apply(self, node: Apply, arguments: Sequence[Code], members: Sequence[Code]) -> Code:
        """Spell one operation."""

    @abstractmethod
    def kernel(self, member: Code, banked: bool) -> Code:
        """Spell the array of a convolution's member; ``banked`` where it is one already."""

    @abstractmethod
    def bank_slice(self, view: BankSlice) -> Code:
        """Spell a slice of a kernel bank's input channels."""

    @abstractmethod
    def construct(self, thing: Thing) -> Code:
        """Spell the construction of a member that is no ``Child``."""

    @abstractmethod
    def construct_child(self, child: Child) -> Code:
        """Spell the construction of an instance of another class of the file."""

    @abstractmethod
    def shape(self, channels: int, height: int, width: int) -> str:
        """Spell the shape of a batch of maps."""

    def enter(self, images: str) -> str | None:
        """Spell what is done with the images first, if anything is."""
        return None

    @abstractmethod
    def annotation(self, kind: Kind) -> str:
        """Spell the type of an input."""

    def declaration(self, values: Sequence[Expression]) -> str:
        """Spell the type of a variable to be returned, if its values do not tell a checker."""
        return ""

    def expression(self, view: Expression) -> Code:
        """Spell an expression."""
        match view:
            case Local(name):
                return Text(name)
            case Own(name):
                return Text(f"self.{name}")
            case BankSlice():
                return self.bank_slice(view)
            case Sources(items):
                return listing(*map(self.expression, items))
            case CallChild(name, arguments, keywords):
                named = [f"{key}={self.expression(value)}" for key, value in keywords]
                return call(f"self.{name}", *map(self.expression, arguments), *named)
            case MapsOf(of, is_list):
                return Text(f"[each.maps for each in {of.name}]" if is_list else f"{of.name}.maps")
            case Feature(maps, moments):
                return call("Feature", maps.name, self.expression(moments))
            case Apply():
                return self.apply(
                    view,
                    [self.expression(each) for each in view.arguments],
                    [self.expression(each) for each in view.members],
                )
            case Unit():
                return self.unit(view)

    def unit(self, view: Unit) -> Code:
        """Spell the call of a unit's helper."""
        arguments: list[Code | str] = [self.expression(view.sources)]
        if view.norm is not None:
            arguments.append(self.expression(view.norm))
        if view.conv is not None and view.kernel is not None:
            arguments.append(self.kernel(self.expression(view.kernel), view.banked))
            arguments += [f"padding={view.conv.padding}"] if view.conv.padding else []
        # The helpers for anything else are there to do it again.
        if view.recompute and view.given:
            arguments.append("recompute=True")
        return call(view.function, *arguments)

    def parameter(self, view: Variable) -> str:
        """Spell an input with its type."""
        return f"{view.name}: {self.annotation(view.kind)}"

    def returns(self, kinds: Sequence[Kind], *, always_tuple: bool = False) -> str:
        """Spell the type of what is returned."""
        types = [self.annotation(kind) for kind in kinds]
        if len(types) == 1 and not always_tuple:
            return types[0]
        each = f"tuple[{', '.join(types)}]"
        return f"tuple[{types[0]}, ...]" if len(each) > _LONG and len(set(types)) == 1 else each

    def body(self, body: Body, depth: int, *, always_tuple: bool = False) -> str:
        """Return statements and the return, indented by ``depth`` levels."""
        lines = [line for each in body.statements for line in self._lines(each, body, depth)]
        returned = names(body.returns, always_tuple=always_tuple)
        lines += layout(returned, prefix="return ", depth=depth)
        return "\n".join(lines)

    def members(self, groups: Sequence[MemberGroup], depth: int) -> str:
        """Return the assignments of members, group by group."""
        return "\n".join(line for group in groups for line in self._group(group, depth))

    def _lines(self, statement: Statement, body: Body, depth: int) -> Iterator[str]:
        if statement.comment:
            yield from comment(statement.comment, depth)
        returned = statement.declares and set(statement.targets) <= set(body.returns)
        values = [each.value for each in body.statements if each.targets == statement.targets]
        declaration = self.declaration(values) if returned else ""
        prefix = f"{', '.join(statement.targets)}{declaration} = "
        code = self.expression(statement.value)
        yield from layout(code, prefix=prefix if statement.targets else "", depth=depth)

    def _group(self, group: MemberGroup, depth: int) -> Iterator[str]:
        if group.comment:
            yield from comment(group.comment, depth)
        for member in group.members:
            thing = member.thing
            code = (
                self.construct_child(thing) if isinstance(thing, Child) else self.construct(thing)
            )
            yield from layout(code, prefix=f"self.{member.name} = ", depth=depth)


def names(of: Sequence[str], *, always_tuple: bool = False) -> Code:
    """Return several names as a tuple, in brackets only where they do not fit one line."""
    flat = ", ".join(of)
    if len(of) == 1:
        return Text(f"({flat},)" if always_tuple else flat)
    if len(flat) <= WIDTH // 2:
        return Text(flat)
    return Bracket("(", tuple(map(Text, of)), ")")
