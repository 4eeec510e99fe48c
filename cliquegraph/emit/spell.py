"""Prints statements and members as lines of source; a backend prints each operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar

from cliquegraph.emit.code import (
    INDENT,
    WIDTH,
    Bracket,
    Code,
    Text,
    call,
    comment,
    layout,
    listing,
    string,
)
from cliquegraph.emit.things import Child, Member, MemberGroup, Thing
from cliquegraph.emit.view import (
    VERSIONS,
    Append,
    Apply,
    BankSlice,
    Body,
    CallChild,
    ClassView,
    Expression,
    Feature,
    Kind,
    Local,
    MapsOf,
    NewSlab,
    Own,
    Put,
    Record,
    Several,
    Sources,
    Spread,
    Statement,
    Unit,
    Variable,
    VersionsOf,
    walk,
)
from cliquegraph.ir.ops import FILLS, Add, Conv, WeightedMean, Zeros

_SUMS = (Add, WeightedMean)
_LONG = 52  # a longer type would not fit the line of a signature


class Speller(ABC):
    """Prints what every backend emits, in the terms of one framework.

    ``tensor`` is the framework's type of arrays, ``call_method`` the method that a call runs.
    """

    tensor: ClassVar[str]
    call_method: ClassVar[str]

    def init_inputs(self, view: ClassView) -> Sequence[str]:
        """Return the parameters of a class's constructor after its widths."""
        return ()

    def takes_stride(self, node: Apply) -> bool:
        """Tell whether a convolution's call takes its stride; otherwise its member has it."""
        return isinstance(node.op, Conv) and not node.op.bias

    def number(self, node: Apply, number: int) -> str:
        """Print the stride of a convolution's call, or the channels of a padding or of zeros."""
        return f"self.{node.argument}" if node.argument else str(number)

    def zeros(self, node: Apply, op: Zeros, x: Code) -> Code:
        """Print the call of the helper that makes zeros."""
        sizes = {"kernel": op.kernel, "stride": op.stride, "padding": op.padding}
        defaults = {"kernel": Zeros.kernel, "stride": Zeros.stride, "padding": Zeros.padding}
        window = [f"{name}={size}" for name, size in sizes.items() if size != defaults[name]]
        return call("zeros", x, self.number(node, op.filters), *window)

    def kept(self, view: ClassView) -> Sequence[str]:
        """Return the constructor's arguments that a class's call reads."""
        parts = (part for each in view.body.statements for part in walk(each.value))
        calls = [part for part in parts if isinstance(part, Apply) and self._takes_number(part)]
        return (*view.kept, *dict.fromkeys(each.argument for each in calls if each.argument))

    def _takes_number(self, node: Apply) -> bool:
        return isinstance(node.op, FILLS) or self.takes_stride(node)

    @abstractmethod
    def apply(self, node: Apply, arguments: Sequence[Code], members: Sequence[Code]) -> Code:
        """Print one operation."""

    @abstractmethod
    def kernel(self, member: Code, banked: bool) -> Code:
        """Print the array of a convolution's member; with ``banked`` it is one already."""

    @abstractmethod
    def bank_slice(self, view: BankSlice) -> Code:
        """Print a slice of a kernel bank's input channels."""

    @abstractmethod
    def construct(self, thing: Thing) -> Code:
        """Print the construction of a member that is no ``Child``."""

    @abstractmethod
    def construct_child(self, child: Child) -> Code:
        """Print the construction of an instance of another class of the file."""

    @abstractmethod
    def shape(self, channels: int, height: int, width: int) -> str:
        """Print the shape of a batch of maps."""

    def enter(self, images: str) -> str | None:
        """Print the first statements on the images, if there are any."""
        return None

    @abstractmethod
    def annotation(self, kind: Kind) -> str:
        """Print the type of an input."""

    def untyped(self, value: Expression) -> bool:
        """Tell whether a type checker can't know what an expression is."""
        return False

    def expression(self, view: Expression) -> Code:
        """Print an expression."""
        match view:
            case Local(name):
                return Text(name)
            case Own(name):
                return Text(f"self.{name}")
            case BankSlice():
                return self.bank_slice(view)
            case Sources(items):
                return listing(*map(self.expression, items))
            case Spread(items):
                return Text(f"*{items.name}")
            case Append(to, value):
                return call(f"{to.name}.append", self.expression(value))
            case Several(items):
                return Text(", ".join(str(self.expression(item)) for item in items))
            case VersionsOf(block):
                return Text(f'({VERSIONS} or {{}}).get("{block}")')
            case CallChild(name, arguments, keywords):
                named = [f"{key}={self.expression(value)}" for key, value in keywords]
                return call(f"self.{name}", *map(self.expression, arguments), *named)
            case MapsOf(feature, is_list):
                name = feature.name
                return Text(f"[each.maps for each in {name}]" if is_list else f"{name}.maps")
            case Feature(maps, moments):
                return call("Feature", maps.name, self.expression(moments))
            case NewSlab(channels):
                return call("Slab", str(channels))
            case Put(slab, feature, start):
                return call(
                    f"{slab.name}.put",
                    self.expression(feature),
                    *([] if start is None else [str(start)]),
                )
            case Apply():
                return self.apply(
                    view,
                    [self.expression(each) for each in view.arguments],
                    [self.expression(each) for each in view.members],
                )
            case Unit():
                return self.unit(view)

    def unit(self, view: Unit) -> Code:
        """Print the call of a unit's helper."""
        arguments: list[Code | str] = [self.expression(view.sources)]
        if view.norm is not None:
            arguments.append(self.expression(view.norm))
        if view.conv is not None and view.kernel is not None:
            arguments.append(self.kernel(self.expression(view.kernel), view.banked))
            arguments += [f"padding={view.conv.padding}"] if view.conv.padding else []
        if view.pool is not None:
            arguments.append(f"pool=({view.pool.kernel}, {view.pool.stride})")
        # The other helpers always recompute.
        if view.recompute and view.given:
            arguments.append("recompute=True")
        return call(view.function, *arguments)

    def parameter(self, view: Variable) -> str:
        """Print an input with its type."""
        if view.kind is Kind.VERSIONS:
            return f"{view.name}: dict[str, {self.tensor}] | None = None"
        return f"{view.name}: {self.annotation(view.kind)}"

    def returns(self, kinds: Sequence[Kind], *, always_tuple: bool = False) -> str:
        """Print the type of the results."""
        types = [self.annotation(kind) for kind in kinds]
        if len(types) == 1 and not always_tuple:
            return types[0]
        each = f"tuple[{', '.join(types)}]"
        return f"tuple[{types[0]}, ...]" if len(each) > _LONG and len(set(types)) == 1 else each

    def body(self, body: Body, depth: int, *, always_tuple: bool = False) -> str:
        """Return statements and the return, indented by ``depth`` levels."""
        statements, returned = body.statements, names(body.returns, always_tuple=always_tuple)
        is_last = bool(statements) and statements[-1].targets == body.returns
        if is_last and len(body.returns) > 1 and body.record is None:
            return "\n".join(self._return_call(body, depth))
        if is_last and not always_tuple and body.record is None:
            *others, last = statements
            if not self._is_untyped(last, body):
                statements, returned = tuple(others), self.expression(last.value)
            elif not last.declares:
                # The result needs a type annotation, which a parameter can't have again.
                used = {*body.reads, *(name for each in others for name in each.targets)}
                name = next(name for name in ("y", "z", "result") if name not in used)
                variable = replace(body.returned[0], name=name)
                last = replace(last, targets=(name,), declares=True)
                body = Body((*others, last), (variable,))
                statements, returned = body.statements, names(body.returns)
        lines = [line for each in statements for line in self._lines(each, body, depth)]
        lines += self._record(body.record, depth) if body.record else ()
        lines += layout(returned, prefix="return ", depth=depth)
        return "\n".join(lines)

    def _return_call(self, body: Body, depth: int) -> Iterator[str]:
        """Print statements the last of which makes everything that is returned."""
        *others, last = body.statements
        for each in others:
            yield from self._lines(each, body, depth)
        code, prefix = self.expression(last.value), "return "
        if self.untyped(last.value):
            yield from layout(code, prefix=f"features: {self.returns(body.kinds)} = ", depth=depth)
            code = Text("features")
        yield from layout(code, prefix=prefix, depth=depth)

    def _record(self, record: Record, depth: int) -> Iterator[str]:
        """Print what a block records if it is asked to."""
        yield f"{INDENT * depth}if {VERSIONS} is not None:"
        depth += 1
        items, growing = [value for _, value in record.items], record.growing
        if growing is not None:
            is_list = growing.kind is Kind.FEATURES
            name = Local(growing.name)
            values = self.expression(MapsOf(name, is_list=True) if is_list else name)
            numbered = Text(f'*(f"X{{j}}@1" for j in range(1, {len(items)}))')
            names: Code = listing('"X0"', numbered)
        else:
            of = [value.of for value in items if isinstance(value, MapsOf)]
            if len(of) == len(items):  # all have moments
                yield from layout(listing(*map(self.expression, of)), prefix="each = ", depth=depth)
                values = Text("[feature.maps for feature in each]")
            else:
                values = listing(*map(self.expression, items))
                if of:  # expressions, not names alone: one in a line if they are too many
                    values = Bracket("(", values.items, ")")
            text = " ".join(name for name, _ in record.items)
            yield from string(text, prefix="names = ", depth=depth)
            names = Text("names.split()")
        if len(f"{INDENT * depth}{VERSIONS}.update(zip({names}, {values}, strict=True))") > WIDTH:
            yield from layout(values, prefix="values = ", depth=depth)
            values = Text("values")
        update = call("zip", names, values, "strict=True")
        yield from layout(call(f"{VERSIONS}.update", update), depth=depth)

    def _is_untyped(self, statement: Statement, body: Body) -> bool:
        """Whether a type checker can't know what a statement computes, even by its arguments."""
        if self.untyped(statement.value):
            return True
        if not isinstance(statement.value, Apply) or not isinstance(statement.value.op, _SUMS):
            return False
        unknown = {n for each in body.statements if self.untyped(each.value) for n in each.targets}
        read = (part.name for part in walk(statement.value) if isinstance(part, Local))
        return not unknown.isdisjoint(read)

    def members(self, groups: Sequence[MemberGroup], depth: int, kept: Sequence[str] = ()) -> str:
        """Return the assignments of ``kept`` arguments and of members, group by group."""
        targets = ", ".join(f"self.{name}" for name in kept)
        lines = [f"{INDENT * depth}{targets} = {', '.join(kept)}"] if kept else []
        lines += [line for group in groups for line in self._group(group, depth)]
        return "\n".join(lines)

    def _lines(self, statement: Statement, body: Body, depth: int) -> Iterator[str]:
        if statement.comment and not statement.beside:
            yield from comment(statement.comment, depth)
        returned = statement.declares and statement.targets == body.returns
        untyped = returned and self._is_untyped(statement, body)
        declaration = f": {self.tensor}" if untyped else ""
        prefix = f"{', '.join(statement.targets)}{declaration} = "
        code = self.expression(statement.value)
        suffix = f"  # {statement.comment}" if statement.beside else ""
        yield from layout(
            code, prefix=prefix if statement.targets else "", suffix=suffix, depth=depth
        )

    def _group(self, group: MemberGroup, depth: int) -> Iterator[str]:
        if group.comment:
            yield from comment(group.comment, depth)
        for thing, run in groupby(group.members, lambda member: member.thing):
            members = list(run)
            if len(members) > 3 and (lines := self._alike(members, self._construct(thing), depth)):
                yield from lines
            else:
                yield from (line for member in members for line in self._member(member, depth))

    def _alike(self, members: Sequence[Member], code: Code, depth: int) -> list[str]:
        """Return one assignment of equal members; nothing if it is too long."""
        targets = ", ".join(f"self.{member.name}" for member in members)
        items = f"{code} for _ in range({len(members)})"
        lines = layout(Bracket("(", (Text(items),), ")"), prefix=f"{targets} = ", depth=depth)
        return lines if max(map(len, lines)) <= WIDTH else []

    def _construct(self, thing: Thing) -> Code:
        return self.construct_child(thing) if isinstance(thing, Child) else self.construct(thing)

    def _member(self, member: Member, depth: int) -> Iterator[str]:
        code = self._construct(member.thing)
        lines = layout(code, prefix=f"self.{member.name} = ", depth=depth)
        if member.comment is None:
            yield from lines
        elif len(lines) == 1 and len(f"{lines[0]}  # {member.comment}") <= WIDTH:
            yield f"{lines[0]}  # {member.comment}"
        else:
            yield from (*comment(member.comment, depth), *lines)


def names(variables: Sequence[str], *, always_tuple: bool = False) -> Code:
    """Return several names as a tuple, in brackets only if they do not fit on one line."""
    flat = ", ".join(variables)
    if len(variables) == 1:
        return Text(f"({flat},)" if always_tuple else flat)
    if len(flat) <= WIDTH // 2:
        return Text(flat)
    return Bracket("(", tuple(map(Text, variables)), ")")
