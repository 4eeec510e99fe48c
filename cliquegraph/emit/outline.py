"""From an op graph to a ``ModelView``: sections and steps become classes and their calls.

Nodes that were lowered from one update form a step. Steps, and sections other than blocks, that
do the same but for their widths share one class; the widths in which they differ become its
constructor's arguments. A block has a class of its own, with its steps spelled out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from cliquegraph.emit import words
from cliquegraph.emit.body import apply, results_of, straight_body
from cliquegraph.emit.members import (
    free_inputs,
    gathers,
    kernel_slice,
    kernel_slot,
    member_of,
    members_of,
    own_member,
    signature,
)
from cliquegraph.emit.names import Namespace, step_name
from cliquegraph.emit.view import (
    Body,
    CallChild,
    Child,
    ClassView,
    Dense,
    Expression,
    Kind,
    Local,
    Member,
    MemberGroup,
    ModelView,
    Parameter,
    Sources,
    Statement,
)
from cliquegraph.emit.widths import shared_widths
from cliquegraph.ir.graph import Graph, Node, Value
from cliquegraph.ir.ops import Concat
from cliquegraph.ir.types import Part, Section
from cliquegraph.steps.graph import BlockSteps, Step, StepGraph

_FEATURES = (Part.STEM, Part.BLOCK, Part.TRANSITION)
_LOGITS = (Part.READOUT, Part.CLASSIFIER)


@dataclass(frozen=True)
class _Region:
    """Nodes that become the call of one member."""

    section: Section
    nodes: tuple[Node, ...]
    step: Step | None = None

    @property
    def name(self) -> str:
        """The name of the member that is called."""
        if self.step is None:
            return str(self.section)
        slots = [operand.param.slot for node in self.nodes for operand in node.operands]
        return next(name for slot in slots if (name := step_name(slot)))


def outline(
    steps: StepGraph, graph: Graph, header: Sequence[str], reserved: Iterable[str]
) -> ModelView:
    """Return the view of a network that a backend writes down.

    Args:
        steps: the step graph, for the rows of Table 1.
        graph: the op graph, with packed kernels.
        header: lines for the top of the file.
        reserved: names that the backend's own lines use.
    """
    network = steps.network
    outliner = _Outliner(steps, graph, [*reserved, network.python_class])
    values: dict[Value, str] = {graph.input: "x"}
    features = outliner.network_body(_FEATURES, values, graph.features)
    logits = outliner.network_body(_LOGITS, values, [graph.logits])
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
        features=features,
        logits=logits,
    )


class _Outliner:
    """Finds the classes of a file and the member that each region becomes."""

    def __init__(self, steps: StepGraph, graph: Graph, reserved: Iterable[str]) -> None:
        self._graph = graph
        self._sections: dict[Section, list[Node]] = {}
        for node in graph.nodes[1:]:
            self._sections.setdefault(node.origin.section, []).append(node)
        self._names = Namespace(reserved)
        self._children: dict[tuple[Section, str], Child] = {}
        self.classes: list[ClassView] = []

        blocks = {block.index: block for block in steps.blocks}
        regions: dict[Section, list[_Region]] = {}
        for section, nodes in self._sections.items():
            if section.part is Part.BLOCK:
                regions[section] = _steps_of(section, nodes, blocks[section.index])
            elif section.part is not Part.CLASSIFIER:
                regions[section] = [_Region(section, tuple(nodes))]
        self._share_classes([region for each in regions.values() for region in each], blocks)
        for section, nodes in self._sections.items():
            if section.part is Part.BLOCK:
                self._block_class(blocks[section.index], section, nodes, regions[section])

    # ---- classes of steps, transitions and readouts --------------------------------------

    def _share_classes(self, regions: Sequence[_Region], blocks: dict[int, BlockSteps]) -> None:
        alike: dict[Hashable, list[_Region]] = {}
        for region in regions:
            key = (region.section.part, signature(region.nodes))
            alike.setdefault(key, []).append(region)
        for same in alike.values():
            first = same[0]
            if first.step is None:
                wanted = first.section.part.capitalize()
                title = words.SECTION_TITLES[first.section.part]
            else:
                spec = blocks[first.section.index].spec
                wanted, title = words.step_class(spec), words.step_doc(spec)
            self._shared_class(same, self._names.unique(wanted), title)

    def _shared_class(self, regions: Sequence[_Region], name: str, title: str) -> None:
        first = regions[0]
        shared = shared_widths([_own_members(region) for region in regions])
        inputs, names, sources = _inputs(first.nodes)
        self.classes.append(
            ClassView(
                name=name,
                doc=f"{title}: {words.sequence(first.nodes)}.",
                widths=shared.names,
                groups=(MemberGroup(None, shared.members),) if shared.members else (),
                inputs=inputs,
                body=straight_body(
                    first.nodes, names, [first.nodes[-1].output], _member_in_step, sources
                ),
            )
        )
        for region, arguments in zip(regions, shared.arguments, strict=True):
            child = Child(name, tuple(zip(shared.names, arguments, strict=True)))
            self._children[region.section, region.name] = child

    # ---- blocks --------------------------------------------------------------------------

    def _block_class(
        self, block: BlockSteps, section: Section, nodes: list[Node], regions: list[_Region]
    ) -> None:
        (x0,) = free_inputs(nodes)
        names = {x0: "x0"}
        results = results_of(self._graph, nodes)
        statements = [self._step_statement(block, region, names) for region in regions]
        for node in nodes:
            if node.origin.layer is None:  # gathers the block feature or the transit
                items = Sources(tuple(Local(names[value]) for value in node.inputs))
                names[node.output] = node.output.hint
                gathered = apply(node, (items,), own_member)
                statements.append(Statement((node.output.hint,), gathered, declares=True))
        shapes = ", ".join(f"{value.hint} {words.shape(value.type)}" for value in results)
        view = ClassView(
            name=self._names.unique(f"Block{block.index}"),
            doc=f"{words.block_doc(block.spec)}: X0 {words.shape(x0.type)} -> {shapes}.",
            widths=(),
            groups=(*_kernel_groups(nodes), self._steps_group(block, regions)),
            inputs=(Parameter("x0", Kind.TENSOR),),
            body=Body(tuple(statements), tuple(names[value] for value in results)),
        )
        self.classes.append(view)
        self._children[section, str(section)] = Child(view.name, ())

    def _step_statement(
        self, block: BlockSteps, region: _Region, names: dict[Value, str]
    ) -> Statement:
        step, result = region.step, region.nodes[-1].output
        assert step is not None  # noqa: S101  # regions of a block are its steps
        call = CallChild(region.name, _arguments(region.nodes, names), _kernels(region.nodes))
        names[result] = result.hint
        line = words.step_line(block, step)
        if result not in results_of(self._graph, region.nodes):
            # Taken all the same, such as stage 2 of a last (I+II) block: its running statistics
            # are the network's.
            return Statement((), call, f"{line}, which none reads")
        return Statement((result.hint,), call, line, declares=True)

    def _steps_group(self, block: BlockSteps, regions: Sequence[_Region]) -> MemberGroup:
        # Where a later stage re-uses an earlier stage's normalisation, it calls its member.
        children = {region.name: self._children[region.section, region.name] for region in regions}
        members = tuple(Member(name, child) for name, child in children.items())
        return MemberGroup(words.steps_comment(block.spec), members)

    # ---- the network ---------------------------------------------------------------------

    def network_members(self) -> tuple[Member, ...]:
        """Return the sections, then the classifier with ``num_classes`` outputs."""
        children = [
            Member(str(section), self._children[section, str(section)])
            for section in self._sections
            if section.part is not Part.CLASSIFIER
        ]
        own = [
            replace(member, thing=replace(member.thing, outputs="num_classes"))
            for member in members_of(self._sections[Section(Part.CLASSIFIER)])
            if isinstance(member.thing, Dense)
        ]
        return (*children, *own)

    def network_body(
        self, parts: Sequence[Part], names: dict[Value, str], results: Sequence[Value]
    ) -> Body:
        """Return the calls of the sections of some parts; ``names`` is read and extended."""
        statements: list[Statement] = []
        for section, nodes in self._sections.items():
            if section.part not in parts:
                continue
            if section.part is Part.CLASSIFIER:
                statements += [_inline(node, names) for node in nodes]
                continue
            arguments = tuple(Local(names[value]) for value in free_inputs(nodes))
            written = results_of(self._graph, nodes)
            for value in written:
                names[value] = f"{value.hint}{section.index}" if value.hint else "x"
            targets = tuple(names[value] for value in written)
            statements.append(Statement(targets, CallChild(str(section), arguments)))
        return Body(tuple(statements), tuple(names[value] for value in results))


def _steps_of(section: Section, nodes: Iterable[Node], block: BlockSteps) -> list[_Region]:
    by_place: dict[tuple[int | None, int | None], list[Node]] = {}
    for node in nodes:
        by_place.setdefault((node.origin.stage, node.origin.layer), []).append(node)
    places = [(step, by_place.get((step.stage, step.layer))) for step in block.steps]
    return [_Region(section, tuple(region), step) for step, region in places if region]


def _own_members(region: _Region) -> tuple[Member, ...]:
    return members_of(node for node in region.nodes if kernel_slot(node) is None)


def _member_in_step(node: Node) -> tuple[Expression, ...]:
    """A kernel that stages share is handed to the step; anything else it holds itself."""
    slot = kernel_slot(node)
    return own_member(node) if slot is None else (Local(slot.role),)


def _inputs(nodes: Sequence[Node]) -> tuple[tuple[Parameter, ...], dict[Value, str], str | None]:
    """The inputs of a class, the names of values among them, and the name of a list of maps."""
    free = free_inputs(nodes)
    gathered = {value for node in nodes if gathers(node, free) for value in node.inputs}
    namespace = Namespace()
    names = {value: namespace.unique("x") for value in free if value not in gathered}
    parameters = [Parameter(name, Kind.TENSOR) for name in names.values()]
    sources = namespace.unique("sources") if gathered else None
    if sources is not None:
        parameters.append(Parameter(sources, Kind.MAPS))
    slots = dict.fromkeys(slot.role for node in nodes if (slot := kernel_slot(node)))
    parameters += [Parameter(role, Kind.KERNEL) for role in slots]
    return tuple(parameters), names, sources


def _arguments(nodes: Sequence[Node], names: dict[Value, str]) -> tuple[Expression, ...]:
    """The arguments for ``_inputs``, as a block calls a step."""
    free = free_inputs(nodes)
    gathering = [node for node in nodes if gathers(node, free)]
    gathered = {value for node in gathering for value in node.inputs}
    arguments: list[Expression] = [Local(names[v]) for v in free if v not in gathered]
    arguments += [
        Sources(tuple(Local(names[value]) for value in node.inputs)) for node in gathering
    ]
    return tuple(arguments)


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


def _inline(node: Node, names: dict[Value, str]) -> Statement:
    """A node of the classifier, which has no class of its own."""
    read = tuple(Local(names[value]) for value in node.inputs)
    arguments: tuple[Expression, ...] = (Sources(read),) if isinstance(node.op, Concat) else read
    names[node.output] = node.output.hint
    return Statement((node.output.hint,), apply(node, arguments, own_member), declares=True)


def _network_doc(steps: StepGraph) -> str:
    network = steps.network
    images = network.input
    blocks = "1 block" if len(steps.blocks) == 1 else f"{len(steps.blocks)} blocks"
    return (
        f"{network.name}: {blocks}, images of {images.height}×{images.width} "
        f"in {images.channels} channel{'s' * (images.channels > 1)}."
    )
