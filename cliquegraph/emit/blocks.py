"""The class of a block: its kernels, its updates as members, and the calls of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit import docs, words
from cliquegraph.emit.body import apply, results_of
from cliquegraph.emit.dims import Dim, Width, arguments_in
from cliquegraph.emit.members import (
    arguments_of,
    member_of,
    own_member,
    shared_operand,
    shared_slot,
)
from cliquegraph.emit.plan import BlockResults, Names, Plan
from cliquegraph.emit.regions import Gather, Region, Values, given_to
from cliquegraph.emit.things import Child, Member, MemberGroup
from cliquegraph.emit.view import (
    VERSIONS,
    Append,
    BankSlice,
    Body,
    CallChild,
    ClassView,
    Expression,
    Kind,
    Local,
    NewSlab,
    Own,
    Put,
    Record,
    Several,
    Sources,
    Statement,
    Variable,
    walk,
)
from cliquegraph.emit.widths import FILTERS, IN, BlockWidths
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import Section, Slot

_SHORT = {IN: "k0", FILTERS: "k"}
"""Names of widths among the calls of updates; k is the paper's."""
_MEANING = {IN: "X0", FILTERS: "each layer"}
_GROWING = "features"


def block_widths(plan: Plan, section: Section) -> BlockWidths:
    """Return the widths of a block as sums of its constructor's arguments."""
    nodes = [node for region in plan.regions[section] for node in region.nodes]
    layers = tuple(value for region in plan.regions[section] for value in plan.results(region))
    return BlockWidths(nodes, plan.block_input(section), plan.returned(layers))


class BlockClass:
    """Builds the view of one block's class; blocks whose views differ only in strides share it."""

    def __init__(
        self,
        plan: Plan,
        section: Section,
        results: BlockResults,
        widths: BlockWidths,
        children: Mapping[tuple[Section, str], Child],
    ) -> None:
        self._plan = plan
        self._section = section
        self._block = plan.blocks[section.index]
        self._regions = plan.regions[section]
        self._called = [region for region in self._regions if not region.idle]
        self._results = results
        self._widths = widths
        self._children = children
        self._x0 = plan.block_input(section)
        self._drawn: Names = {value: value.hint for value in plan.drawn(section)}
        self._slabs = self._name_slabs()
        self._columns = dict(self._starts())

    def view(self) -> ClassView:
        """Return the class, under the name of its kind."""
        body = self._body()
        groups = (*self._kernel_groups(), *self._steps_groups())
        short = tuple(self._read_widths(body))
        used = {*short, *arguments_in(tuple(m.thing for g in groups for m in g.members))}
        attributes = tuple(name for name in self._widths.arguments if name in short)
        if attributes:
            names = tuple(_SHORT.get(name, name) for name in attributes)
            values: Expression = Several(tuple(map(Own, attributes)))
            comment = "channels of " + " and of ".join(_MEANING.get(n, n) for n in attributes)
            first = Statement(names, values, comment, beside=True)
            body = replace(body, statements=(first, *body.statements))
        return ClassView(
            name=docs.block_class(self._block),
            doc=docs.block_doc(self._block, self._results.lists.values()),
            widths=tuple(name for name in self._widths.arguments if name in used),
            strides=(),
            kept=attributes,
            groups=groups,
            inputs=(
                self._plan.variable(self._x0, "x0"),
                *(Variable(name, Kind.TENSOR) for name in self._drawn.values()),
                Variable(VERSIONS, Kind.VERSIONS),
            ),
            body=replace(body, record=self._record(body)),
        )

    def _record(self, body: Body) -> Record:
        """What the call records of X0 and of each version that it computes."""
        items: list[tuple[str, Expression]] = [("X0", self._plan.maps(self._x0, {self._x0: "x0"}))]
        for region in self._called:
            assert region.step is not None  # noqa: S101  # regions of a block are its steps
            value = self._version(region)
            maps = self._plan.maps(value, {value: value.hint})
            items.append((str(region.step.writes), maps))
        is_growing = any(each.targets == (_GROWING,) for each in body.statements)
        kind = Kind.FEATURES if self._x0 in self._plan.moments else Kind.MAPS
        return Record(tuple(items), Variable(_GROWING, kind) if is_growing else None)

    def _version(self, region: Region) -> Value:
        """The version of a layer that an update writes."""
        *_, version = self._plan.returned(self._plan.results(region))
        return version

    # ---- the call ------------------------------------------------------------------------

    def _body(self) -> Body:
        names: Names = {self._x0: "x0", **self._drawn}
        if (features := self._growing_features()) is not None:
            return self._growing_body(features, names)
        statements = [*self._slab_statements()]
        statements += [self._step_statement(region, names) for region in self._called]
        for node in self._plan.means(self._section):
            name = names[node.output] = self._results.name(node.output, node.output.hint)
            read = tuple(self._plan.maps(value, names) for value in node.inputs)
            statements.append(Statement((name,), apply(node, read, own_member), declares=True))
        if self._results.concatenates:
            for node in self._results.concats:
                name = names[node.output] = self._results.name(node.output, node.output.hint)
                items = Sources(tuple(self._plan.maps(value, names) for value in node.inputs))
                gathered = apply(node, (items,), own_member)
                statements.append(Statement((name,), gathered, declares=True))
        returned = [self._plan.variable(v, names[v]) for v in self._results.direct]
        for gather, name in self._results.lists.items():
            # Always the same name, although the last block has no transit, so that blocks share it.
            name = "layers" if len(self._results.lists) == 1 else self._results.name(gather, name)
            statements.append(Statement((name,), self._plan.listed(gather, names), declares=True))
            returned.append(Variable(name, gather.kind))
        return Body(tuple(statements), tuple(returned))

    def _name_slabs(self) -> dict[Slab, str]:
        """The buffers of X0 and what the block writes; X0 may be what another block wrote last."""
        written = [*map(self._version, self._called)]
        slabs = [slab for slab in self._plan.graph.slabs if not {*slab.values}.isdisjoint(written)]
        slabs = [slab for slab in slabs if {*slab.values} <= {self._x0, *written}]
        return {slab: f"slab{i}" if len(slabs) > 1 else "slab" for i, slab in enumerate(slabs, 1)}

    def _starts(self) -> Iterator[tuple[Value, tuple[Slab, Dim | None]]]:
        """The first column of each value, None where it lies behind the one written before it."""
        order = [self._x0, *map(self._version, self._called)]
        for slab in self._slabs:
            end = 0
            for value in sorted(slab.values, key=order.index):
                start, stop = slab.columns[value]
                before = slab.values[: slab.values.index(value)]
                at: Dim | None = None
                if start != end:
                    widths = map(self._widths.of, before)
                    at = reduce(add, widths, Width(())).renamed(_SHORT) if before else 0
                yield value, (slab, at)
                end = stop

    def _step_statement(self, region: Region, names: Names) -> Statement:
        step = region.step
        assert step is not None  # noqa: S101  # regions of a block are its steps
        call = CallChild(
            region.name, self._plan.arguments(region.nodes, names), self._shared(region.nodes)
        )
        staged = self._block.declared.words.staged
        line = words.step_line(self._block, step) if staged else None
        results = self._plan.returned(results_of(self._plan.graph, region.nodes))
        if not results:
            # Executed nevertheless, such as stage 2 of a last (I+II) block at -O0, to update its
            # running statistics.
            line = f"{line}, which nothing reads" if line else "nothing reads it"
            results = (self._version(region),)
        names.update({value: value.hint for value in results})
        targets = tuple(value.hint for value in results)
        placed = self._put(results[-1], call)
        return Statement(targets, placed, line, declares=True, origins=_origins(region))

    def _slab_statements(self) -> Iterator[Statement]:
        """The buffers of the block, and X0 in its own."""
        for slab, name in self._slabs.items():
            channels = reduce(add, map(self._widths.of, slab.values)).renamed(_SHORT)
            yield Statement((name,), NewSlab(channels), declares=True)
        if self._x0 in self._columns:
            yield Statement(("x0",), self._put(self._x0, Local("x0")))

    def _put(self, value: Value, feature: Expression) -> Expression:
        """A feature, moved to its columns, if it has any."""
        if value not in self._columns:
            return feature
        slab, start = self._columns[value]
        return Put(Local(self._slabs[slab]), feature, start)

    def _shared(self, nodes: Sequence[Node]) -> tuple[tuple[str, Expression], ...]:
        """What an update shares with others, by keyword: kernels, biases, normalizations.

        A slice of a parameter can't be a positional argument of a module: PyTorch's FLOP counter
        hooks those, and fails on one where gradients are off.
        """
        names = arguments_of(nodes)
        operands = {
            names[slot]: _shorten_widths(shared_operand(node, self._widths))
            for node in nodes
            if (slot := shared_slot(node))
        }
        return tuple(operands.items())

    def _read_widths(self, body: Body) -> Iterator[str]:
        """The constructor's arguments that the calls read."""
        original = {short: name for name, short in _SHORT.items()}
        for part in (part for each in body.statements for part in walk(each.value)):
            dims: tuple[Dim | None, ...] = ()
            match part:
                case BankSlice(_, start, stop):
                    dims = start, stop
                case NewSlab(channels):
                    dims = (channels,)
                case Put(_, _, start):
                    dims = (start,)
            for name in arguments_in(dims):
                yield original.get(name, name)

    # ---- dense blocks: every update reads all before it ------------------------------------------

    def _growing_features(self) -> Values | None:
        """X0 and the results of updates, if each reads all before it and all are returned.

        Such a block has one growing list. Where updates have stages, each is instead under its row
        of Table 1, with its sources by name.
        """
        if self._block.declared.words.staged:
            return None
        values: list[Value] = [self._x0]
        featured = self._x0 in self._plan.moments
        for region in self._called:
            inputs = given_to(region.nodes)
            results = self._plan.returned(results_of(self._plan.graph, region.nodes))
            if inputs.gathered != Gather(tuple(values), featured) or inputs.maps or inputs.features:
                return None
            if len(results) != 1 or (results[0] in self._plan.moments) != featured:
                return None
            values += results
        lists = [*self._results.lists, *(Gather(n.inputs, featured) for n in self._own_concats())]
        return tuple(values) if lists == [Gather(tuple(values), featured)] else None

    def _own_concats(self) -> tuple[Node, ...]:
        return self._results.concats if self._results.concatenates else ()

    def _growing_body(self, values: Values, names: Names) -> Body:
        features = Local(_GROWING)
        names[Gather(values, self._x0 in self._plan.moments)] = _GROWING
        statements = [*self._slab_statements()]
        statements.append(Statement((_GROWING,), Sources((Local("x0"),)), declares=True))
        for region in self._called:
            call = CallChild(region.name, (features,), self._shared(region.nodes))
            placed = self._put(self._version(region), call)
            statements.append(Statement((), Append(features, placed), origins=_origins(region)))
        for node in self._own_concats():
            gathered = apply(node, (features,), own_member)
            statements.append(Statement((node.output.hint,), gathered, declares=True))
            return Body(tuple(statements), (Variable(node.output.hint, Kind.TENSOR),))
        (gather,) = self._results.lists
        return Body(tuple(statements), (Variable(_GROWING, gather.kind),))

    # ---- the members ---------------------------------------------------------------------

    def _kernel_groups(self) -> tuple[MemberGroup, ...]:
        """The kernels of a block, which its stages share, by role."""
        groups: dict[tuple[str, bool], dict[str, Member]] = {}
        comments: dict[tuple[str, bool], str] = {}
        slots: dict[str, Slot] = {}
        for node in (node for region in self._regions for node in region.nodes):
            slot, member = shared_slot(node), member_of(node, self._widths)
            if slot is not None and member is not None:
                if slots.setdefault(member.name, slot) != slot:
                    raise VerificationError(f"{node.origin}: two members are called {member.name}")
                kind = slot.role, slot.source is None
                comments[kind] = words.shared_comment(slot)
                groups.setdefault(kind, {})[member.name] = member
        return tuple(
            MemberGroup(comments[kind], tuple(members.values())) for kind, members in groups.items()
        )

    def _steps_groups(self) -> Iterator[MemberGroup]:
        # With norm_per_stage: false, stages from 3 on call the members of stage 2.
        called: dict[str, Child] = {}
        idle: dict[str, Child] = {}
        for region in self._regions:
            child = self._children[region.section, region.name]
            (idle if region.idle else called)[region.name] = child
        comments = (self._block.declared.words.steps_comment, words.IDLE)
        for comment, children in zip(comments, (called, idle), strict=True):
            if children:
                members = tuple(Member(name, child) for name, child in children.items())
                yield MemberGroup(comment, members)


def _origins(region: Region) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys(node.origin for node in region.nodes))


def _shorten_widths(view: Expression) -> Expression:
    if not isinstance(view, BankSlice):
        return view
    start, stop = (
        end.renamed(_SHORT) if isinstance(end, Width) else end for end in (view.start, view.stop)
    )
    return BankSlice(view.name, start, stop)
