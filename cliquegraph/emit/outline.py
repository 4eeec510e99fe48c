"""From an op graph to a ``ModelView``: sections and steps become classes and their calls.

Nodes that were lowered from one update form a step. Steps, and sections other than blocks, that
do the same but for their widths share one class; the widths in which they differ become its
constructor's arguments. A block has a class of its own, with its steps spelled out. Where its
readers gather the maps themselves, it returns them in lists.

``regions.py`` says which nodes become one call, ``plan.py`` which calls share a class and what each
returns; here both become views.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cliquegraph.emit import words
from cliquegraph.emit.body import apply, results_of, straight_body
from cliquegraph.emit.members import (
    free_inputs,
    kernel_slice,
    kernel_slot,
    member_of,
    members_of,
    own_member,
)
from cliquegraph.emit.names import Namespace
from cliquegraph.emit.plan import Names, Plan
from cliquegraph.emit.regions import Gather, Region, given_to
from cliquegraph.emit.things import Child, Dense, Member, MemberGroup
from cliquegraph.emit.view import (
    Body,
    CallChild,
    ClassView,
    Expression,
    Kind,
    Local,
    MapsOf,
    ModelView,
    Sources,
    Statement,
    Variable,
)
from cliquegraph.emit.widths import shared_widths
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat
from cliquegraph.ir.types import Part, Section
from cliquegraph.steps.graph import BlockSteps, StepGraph

_FEATURES = (Part.STEM, Part.BLOCK, Part.TRANSITION)
_LOGITS = (Part.READOUT, Part.CLASSIFIER)


def outline(
    steps: StepGraph, graph: Graph, header: Sequence[str], reserved: Iterable[str]
) -> ModelView:
    """Return the view of a network that a backend writes down.

    Args:
        steps: the step graph, for the rows of Table 1.
        graph: the op graph, with packed kernels.
        header: lines for the top of the file.
        reserved: names that the backend's own lines use.

    Raises:
        VerificationError: the graph has something that no call is made for.
    """
    network = steps.network
    outliner = _Outliner(Plan(steps, graph), [*reserved, network.python_class])
    names: Names = {graph.input: "x"}
    trunk = outliner.network_body(_FEATURES, names)
    made = tuple(outliner.variables.values())
    features = outliner.features_body(names)
    logits = outliner.network_body(_LOGITS, names, [graph.logits])
    gather = None
    if features.statements:
        wanted = {*features.reads, *features.returns, *logits.reads}
        gather = replace(trunk, returned=tuple(each for each in made if each.name in wanted))
    images = network.input
    return ModelView(
        header=tuple(header),
        class_name=network.python_class,
        doc=_network_doc(steps),
        classes_default=network.classifier.classes,
        input_shape=(images.channels, images.height, images.width),
        classes=tuple(outliner.classes),
        groups=(MemberGroup(None, outliner.network_members()),),
        input_name="x",
        gather=gather,
        features=features if gather else replace(trunk, returned=features.returned),
        logits=logits,
        alike=outliner.alike,
    )


class _Outliner:
    """Makes the classes of a file, and the member that each region becomes.

    ``variables`` are what blocks and readouts return, in the network's own methods and in
    order; ``alike`` is what ``ModelView`` says of it.
    """

    def __init__(self, plan: Plan, reserved: Iterable[str]) -> None:
        self._plan = plan
        self._names = Namespace(reserved)
        self._children: dict[tuple[Section, str], Child] = {}
        self._lists: dict[Section, dict[Gather, str]] = {}
        self.classes: list[ClassView] = []
        self.variables: dict[str, Variable] = {}
        self.alike: dict[str, tuple[str, ...]] = {}
        self._share_classes()
        for section in plan.sections:
            if section.part is Part.BLOCK:
                regions = plan.regions[section]
                self._block_class(plan.blocks[section.index], section, regions)
                if alike := self._alike(regions):
                    self.alike[str(section)] = alike

    # ---- classes of steps, transitions and readouts --------------------------------------

    def _share_classes(self) -> None:
        for same in self._plan.shared():
            first = same[0]
            if first.step is None:
                wanted = first.section.part.capitalize()
                title = words.SECTION_TITLES[first.section.part]
            else:
                of = self._plan.blocks[first.section.index].declared.words
                wanted, title = of.unit, of.unit_doc
            self._shared_class(same, self._names.unique(wanted), title)

    def _shared_class(self, regions: Sequence[Region], name: str, title: str) -> None:
        first = regions[0]
        shared = shared_widths([_own_members(region) for region in regions])
        inputs = _inputs(first.nodes)
        self.classes.append(
            ClassView(
                name=name,
                doc=f"{title}: {words.sequence(first.nodes)}.",
                widths=shared.names,
                groups=(MemberGroup(None, shared.members),) if shared.members else (),
                inputs=inputs.variables,
                body=straight_body(
                    first.nodes,
                    inputs.names,
                    self._plan.results(first),
                    _member_in_step,
                    self._plan.units,
                    inputs.sources,
                ),
            )
        )
        for region, arguments in zip(regions, shared.arguments, strict=True):
            child = Child(name, tuple(zip(shared.names, arguments, strict=True)))
            self._children[region.section, region.name] = child

    def _alike(self, steps: Sequence[Region]) -> tuple[str, ...]:
        """The steps of a block that do what another does, on inputs of the same widths."""
        found: dict[Hashable, list[str]] = {}
        for step in steps:
            if not step.idle:
                given = tuple(value.type for value in free_inputs(step.nodes))
                same = found.setdefault((self._children[step.section, step.name], given), [])
                same.append(step.name)
        groups = (dict.fromkeys(names) for names in found.values())
        return tuple(name for names in groups if len(names) > 1 for name in names)

    # ---- blocks --------------------------------------------------------------------------

    def _block_class(self, block: BlockSteps, section: Section, regions: Sequence[Region]) -> None:
        nodes = self._plan.sections[section]
        direct, lists = self._plan.block_results(block, section)
        self._lists[section] = lists
        x0 = self._plan.block_input(section)
        names: Names = {x0: "x0"}
        called = [region for region in regions if not region.idle]
        statements = [self._step_statement(block, region, names) for region in called]
        for node in nodes:
            if node.origin.layer is None:  # gathers the block feature or the transit
                items = Sources(tuple(self._plan.maps(value, names) for value in node.inputs))
                names[node.output] = node.output.hint
                gathered = apply(node, (items,), own_member)
                statements.append(Statement((node.output.hint,), gathered, declares=True))
        for gather, name in lists.items():
            statements.append(Statement((name,), self._plan.listed(gather, names), declares=True))
        shown = {value.hint: value.type for value in direct}
        for gather, name in lists.items():
            (joined,) = Concat().infer(tuple(value.type for value in gather.values))
            shown[name.removesuffix("_maps")] = joined
        shapes = ", ".join(f"{name} {words.shape(of)}" for name, of in shown.items())
        returned = [self._plan.variable(value, names[value]) for value in direct]
        returned += [Variable(name, gather.kind) for gather, name in lists.items()]
        view = ClassView(
            name=self._names.unique(f"Block{block.index}"),
            doc=f"{block.declared.words.title}: X0 {words.shape(x0.type)} -> {shapes}.",
            widths=(),
            groups=(
                *_kernel_groups([node for region in regions for node in region.nodes]),
                *self._steps_groups(block, regions),
            ),
            inputs=(self._plan.variable(x0, "x0"),),
            body=Body(tuple(statements), tuple(returned)),
        )
        self.classes.append(view)
        self._children[section, str(section)] = Child(view.name, ())

    def _step_statement(self, block: BlockSteps, region: Region, names: Names) -> Statement:
        step = region.step
        assert step is not None  # noqa: S101  # regions of a block are its steps
        arguments = self._plan.arguments(region.nodes, names)
        call = CallChild(region.name, arguments, _kernels(region.nodes))
        line = words.step_line(block, step)
        results = self._plan.returned(results_of(self._plan.graph, region.nodes))
        if not results:
            # Taken all the same, such as stage 2 of a last (I+II) block at -O0: its running
            # statistics are the network's.
            return Statement((), call, f"{line}, which none reads")
        names.update({value: value.hint for value in results})
        return Statement(tuple(value.hint for value in results), call, line, declares=True)

    def _steps_groups(self, block: BlockSteps, regions: Sequence[Region]) -> Iterator[MemberGroup]:
        # Where a later stage re-uses an earlier stage's normalisation, it calls its member.
        called: dict[str, Child] = {}
        idle: dict[str, Child] = {}
        for region in regions:
            child = self._children[region.section, region.name]
            (idle if region.idle else called)[region.name] = child
        comments = (block.declared.words.steps_comment, words.IDLE)
        for comment, children in zip(comments, (called, idle), strict=True):
            if children:
                members = tuple(Member(name, child) for name, child in children.items())
                yield MemberGroup(comment, members)

    # ---- the network ---------------------------------------------------------------------

    def network_members(self) -> tuple[Member, ...]:
        """Return the sections, then the classifier with ``num_classes`` outputs."""
        children = [
            Member(str(section), self._children[section, str(section)])
            for section in self._plan.sections
            if not self._plan.is_inline(section)
        ]
        own = [
            replace(member, thing=replace(member.thing, outputs="num_classes"))
            for member in members_of(self._plan.sections[Section(Part.CLASSIFIER)])
            if isinstance(member.thing, Dense)
        ]
        return (*children, *own)

    def network_body(
        self, parts: Sequence[Part], names: Names, results: Sequence[Value] = ()
    ) -> Body:
        """Return the calls of the sections of some parts; ``names`` is read and extended."""
        statements: list[Statement] = []
        for section, nodes in self._plan.sections.items():
            if section.part not in parts:
                continue
            if self._plan.is_inline(section):
                statements += [self._inline(node, names) for node in nodes]
                continue
            if section.part is Part.BLOCK:
                arguments: tuple[Expression, ...] = (Local(names[self._plan.block_input(section)]),)
            else:
                arguments = self._plan.arguments(nodes, names)
            targets = tuple(self._section_results(section, nodes, names))
            statements.append(Statement(targets, CallChild(str(section), arguments)))
        returned = tuple(self._plan.variable(value, names[value]) for value in results)
        return Body(tuple(statements), returned)

    def _section_results(
        self, section: Section, nodes: Sequence[Node], names: Names
    ) -> Iterator[str]:
        """Name what a section returns, in order."""
        lists = self._lists.get(section, {})
        listed = {value for gather in lists for value in gather.values}
        for value in self._plan.returned(results_of(self._plan.graph, nodes)):
            if value in listed:
                continue
            if section.part in (Part.BLOCK, Part.READOUT):
                of = "feature" if value in self._plan.graph.features else value.hint
                names[value] = f"{of}{section.index}"
                self.variables[names[value]] = self._plan.variable(value, names[value])
            else:
                names[value] = "entry" if value in self._plan.moments else "x"
            yield names[value]
        for gather, name in lists.items():
            names[gather] = f"{name}{section.index}"
            self.variables[names[gather]] = Variable(names[gather], gather.kind)
            yield names[gather]

    def features_body(self, names: Names) -> Body:
        """Return the block features, made of what the blocks returned where they made none."""
        statements = []
        returned = []
        for index, value in enumerate(self._plan.graph.features, start=1):
            node = self._plan.graph.producers[value]
            name = f"maps{index}"
            if node in self._plan.joined:
                names[value] = name
                features, maps = Gather(node.inputs, True), Gather(node.inputs, False)
                given = (
                    MapsOf(Local(names[features]), is_list=True)
                    if features in names
                    else Local(names[maps])
                )
                joined = apply(node, (given,), own_member)
                statements.append(Statement((name,), joined, declares=True))
            elif value in self._plan.moments:
                statements.append(Statement((name,), self._plan.maps(value, names), declares=True))
            else:
                name = names[value]
            returned.append(Variable(name, Kind.TENSOR))
        return Body(tuple(statements), tuple(returned))

    def _inline(self, node: Node, names: Names) -> Statement:
        """A node of a section that has no class of its own."""
        read = tuple(self._plan.maps(value, names) for value in node.inputs)
        arguments: tuple[Expression, ...] = (
            (Sources(read),) if isinstance(node.op, Concat) else read
        )
        is_readout = node.origin.section.part is Part.READOUT
        name = f"{node.output.hint}{node.origin.section.index if is_readout else ''}"
        names[node.output] = name
        return Statement((name,), apply(node, arguments, own_member), declares=True)


def _own_members(region: Region) -> tuple[Member, ...]:
    return members_of(node for node in region.nodes if kernel_slot(node) is None)


def _member_in_step(node: Node) -> tuple[Expression, ...]:
    """A kernel that stages share is handed to the step; anything else it holds itself."""
    slot = kernel_slot(node)
    return own_member(node) if slot is None else (Local(slot.role),)


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a class, what each value is among them, and the name of a list."""

    variables: tuple[Variable, ...]
    names: dict[Value, Expression]
    sources: str | None


def _inputs(nodes: Sequence[Node]) -> _Inputs:
    given = given_to(nodes)
    namespace = Namespace()
    names = {value: namespace.unique("x") for value in (*given.maps, *given.features)}
    variables = [Variable(names[value], Kind.TENSOR) for value in given.maps]
    variables += [Variable(names[value], Kind.FEATURE) for value in given.features]
    sources = None
    if given.gathered:
        sources = namespace.unique("sources")
        variables.append(Variable(sources, given.gathered.kind))
    slots = dict.fromkeys(slot.role for node in nodes if (slot := kernel_slot(node)))
    variables += [Variable(role, Kind.KERNEL) for role in slots]
    return _Inputs(tuple(variables), {v: Local(name) for v, name in names.items()}, sources)


def _kernels(nodes: Sequence[Node]) -> tuple[tuple[str, Expression], ...]:
    """The kernels that a step is handed, by keyword.

    A slice of a parameter is no positional argument of a module: PyTorch's FLOP counter hooks
    those, and fails on one where gradients are off.
    """
    return tuple((slot.role, kernel_slice(node)) for node in nodes if (slot := kernel_slot(node)))


def _kernel_groups(nodes: Sequence[Node]) -> tuple[MemberGroup, ...]:
    """The kernels of a block that its stages share, by role."""
    groups: dict[str, dict[str, Member]] = {}
    comments: dict[str, str] = {}
    for node in nodes:
        slot, member = kernel_slot(node), member_of(node)
        if slot is not None and member is not None:
            comments[slot.role] = words.kernel_comment(slot)
            groups.setdefault(slot.role, {})[member.name] = member
    return tuple(
        MemberGroup(comments[role], tuple(members.values())) for role, members in groups.items()
    )


def _network_doc(steps: StepGraph) -> str:
    network = steps.network
    images = network.input
    blocks = "1 block" if len(steps.blocks) == 1 else f"{len(steps.blocks)} blocks"
    return (
        f"{network.name}: {blocks}, images of {images.height}×{images.width} "
        f"in {images.channels} channel{'s' * (images.channels > 1)}."
    )
