"""From an op graph to a ``ModelView``: sections and steps become classes and their calls.

The nodes of one update form a region, as do those of a section other than a block. Regions that
differ only in their widths share one class; the widths in which they differ become arguments of its
constructor. A block's class calls its updates one by one (``blocks.py``); blocks that differ only
in arguments share one class. A block returns its layers as lists, from which the network makes the
block feature and the transit.

``regions.py`` decides which nodes become one call, ``plan.py`` which calls share a class and what
each returns; here both become views.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit import docs, words
from cliquegraph.emit.blocks import BlockClass, block_widths
from cliquegraph.emit.body import apply, results_of, straight_body
from cliquegraph.emit.members import (
    arguments_of,
    free_inputs,
    members_of,
    own_member,
    shared_slot,
)
from cliquegraph.emit.names import Namespace, is_bare, member_name, member_path
from cliquegraph.emit.plan import BlockResults, Names, Plan
from cliquegraph.emit.regions import Gather, Region, given_to
from cliquegraph.emit.sharing import Instance, shared_blocks, shared_members, without_strides
from cliquegraph.emit.things import Child, Dense, Member, MemberGroup
from cliquegraph.emit.view import (
    BankSlice,
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
    VersionsOf,
)
from cliquegraph.emit.widths import Numbers
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import param_name
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.ops import FILLS, Concat, Stack
from cliquegraph.ir.types import Param, Part, Section
from cliquegraph.steps.graph import StepGraph

_FEATURES = (Part.NETWORK, Part.STEM, Part.BLOCK, Part.TRANSITION)
_LOGITS = (Part.READOUT, Part.CLASSIFIER)


def outline(
    steps: StepGraph, graph: Graph, header: Sequence[str], reserved: Iterable[str]
) -> ModelView:
    """Return the view of a network for a backend to print.

    Args:
        steps: the step graph, for the rows of Table 1.
        graph: the op graph, with packed kernels.
        header: lines for the top of the file.
        reserved: names that the backend itself uses.

    Raises:
        VerificationError: the graph has a node that can't be part of any call, or two tensors
            would have one name.
    """
    _require_own_names(graph)
    network = steps.network
    outliner = _Outliner(Plan(steps, graph), [*reserved, network.python_class])
    names: Names = {graph.input: "x"}
    trunk = outliner.network_body(_FEATURES, names)
    variables = tuple(outliner.variables.values())
    features = outliner.features_body(names)
    logits = outliner.network_body(_LOGITS, names, [graph.logits])
    gather = None
    # Block features may be made of lists, and readouts may read lists that aren't block features.
    lists = logits.reads.intersection(each.name for each in variables).difference(features.returns)
    if features.statements or lists:
        needed = {*features.reads, *features.returns, *logits.reads}
        gather = replace(trunk, returned=tuple(each for each in variables if each.name in needed))
    images = network.input
    return ModelView(
        header=tuple(header),
        class_name=network.python_class,
        doc=_network_doc(steps),
        references=docs.papers(steps.blocks),
        classes_default=network.classifier.classes,
        input_shape=(images.channels, images.height, images.width),
        classes=tuple(outliner.classes),
        groups=(MemberGroup(None, outliner.network_members()),),
        input_name="x",
        gather=gather,
        features=features if gather else replace(trunk, returned=features.returned),
        logits=logits,
        alike=outliner.alike,
        stages=len(steps.blocks[-1].readings),
    )


def _require_own_names(graph: Graph) -> None:
    """Raise a ``VerificationError`` if a member's name would make two tensors one."""
    held: dict[tuple[object, ...], Param] = {}
    for param in graph.params:
        path = member_path(param)
        if held.setdefault((*path, param.field), param) is not param:
            raise VerificationError(f"{param_name(param)}: two members are called {'.'.join(path)}")


class _Outliner:
    """Builds the classes of a file, and the member of each region.

    ``variables`` are the results of blocks and readouts in the network's own methods, in order;
    ``alike`` is that of ``ModelView``.
    """

    def __init__(self, plan: Plan, reserved: Iterable[str]) -> None:
        self._plan = plan
        self._names = Namespace(reserved)
        self._children: dict[tuple[Section, str], Child] = {}
        self._comments: dict[Section, str] = {}
        self._results: dict[Section, BlockResults] = {}
        self.classes: list[ClassView] = []
        self.variables: dict[str, Variable] = {}
        self.alike: dict[str, tuple[str, ...]] = {}
        blocks = [section for section in plan.sections if section.part is Part.BLOCK]
        self._widths = {section: block_widths(plan, section) for section in blocks}
        self._share_classes()
        self._block_classes(blocks)
        for section in blocks:
            if alike := self._alike(section):
                self.alike[str(section)] = alike

    # ---- classes of steps, transitions and readouts --------------------------------------

    def _share_classes(self) -> None:
        for same in self._plan.shared():
            first = same[0]
            strides = {tuple(getattr(n.op, "stride", 1) for n in region.nodes) for region in same}
            sentence = words.sequence(first.nodes, strided=len(strides) > 1)
            if first.step is None:
                name = first.section.part.capitalize()
                doc = docs.section_doc(first.section.part, first.nodes, sentence)
            else:
                texts = self._plan.blocks[first.section.index].declared.words
                name = docs.unit_class(texts, first.nodes)
                doc = f"{texts.unit_doc}: {sentence}."
            self._shared_class(same, self._names.unique(name), doc)

    def _shared_class(self, regions: Sequence[Region], name: str, doc: str) -> None:
        first = regions[0]
        shared = shared_members([self._instance(region) for region in regions])
        inputs = _inputs(first.nodes)
        self.classes.append(
            ClassView(
                name=name,
                doc=doc,
                widths=shared.widths.names,
                strides=shared.strides.names,
                kept=(),
                groups=(MemberGroup(None, shared.members),) if shared.members else (),
                inputs=inputs.variables,
                body=straight_body(
                    first.nodes,
                    inputs.names,
                    self._plan.results(first),
                    _members_in_step(first.nodes),
                    self._plan.units,
                    inputs.sources,
                    inputs.features,
                    shared.argument,
                    [region.nodes for region in regions],
                ),
            )
        )
        for position, region in enumerate(regions):
            key, child = (region.section, region.name), shared.child(name, position)
            if self._children.setdefault(key, child) != child:
                raise VerificationError(
                    f"{region.nodes[0].origin}: updates that share a member read in different ways"
                )

    def _instance(self, region: Region) -> Instance:
        widths = self._widths.get(region.section, Numbers())
        nodes = [node for node in region.nodes if shared_slot(node) is None]
        first, *_ = region.nodes
        reads = first.output if isinstance(first.op, Concat) else first.inputs[0]
        *_, writes = self._plan.returned(self._plan.results(region))
        fills = {n: widths.of(n.output) for n in nodes if isinstance(n.op, FILLS)}
        return Instance(members_of(nodes, widths), widths.of(reads), widths.of(writes), fills)

    def _alike(self, section: Section) -> tuple[str, ...]:
        """The updates of a block that compute the same as another, on inputs of the same widths."""
        widths = self._widths[section]
        names_of: dict[Hashable, list[str]] = {}
        for step in self._plan.regions[section]:
            if not step.idle:
                child = self._children[section, step.name]
                numbers = (*map(widths.number, child.arguments), *child.strides)
                inputs = tuple(value.type for value in free_inputs(step.nodes))
                same = names_of.setdefault((child.class_name, numbers, inputs), [])
                same.append(step.name)
        groups = (dict.fromkeys(names) for names in names_of.values())
        return tuple(name for names in groups if len(names) > 1 for name in names)

    def _block_classes(self, blocks: Sequence[Section]) -> None:
        """Build the classes of blocks; those that differ only in numbers share one."""
        alike: dict[ClassView, list[tuple[Section, ClassView]]] = {}
        for section in blocks:
            view = self._block_class(section)
            alike.setdefault(without_strides(view), []).append((section, view))
        for same in alike.values():
            view, strides = shared_blocks([each for _, each in same])
            view = replace(view, name=self._names.unique(view.name))
            self.classes.append(view)
            for position, (section, _) in enumerate(same):
                arguments = tuple(self._widths[section].arguments[name] for name in view.widths)
                values = tuple(zip(strides.names, strides.of(position), strict=True))
                self._children[section, str(section)] = Child(view.name, arguments, values)

    def _block_class(self, section: Section) -> ClassView:
        block, widths = self._plan.blocks[section.index], self._widths[section]
        results = self._results[section] = self._plan.block_results(block, section)
        x0, feature = self._plan.block_input(section), self._plan.graph.features[section.index - 1]
        self._comments[section] = docs.block_comment(x0.type, feature.type)
        return BlockClass(self._plan, section, results, widths, self._children).view()

    # ---- the network ---------------------------------------------------------------------

    def network_members(self) -> tuple[Member, ...]:
        """Return what draws for the network, the sections, then the classifier.

        The classifier has ``num_classes`` outputs.
        """
        drawing = members_of(self._plan.sections.get(Section(Part.NETWORK), ()))
        children: list[Member] = []
        for section, regions in self._plan.regions.items():
            nodes = [node for region in regions for node in region.nodes]
            if section.part is Part.BLOCK:
                names: Iterable[str] = (str(section),)
            else:
                shared = [node for node in nodes if shared_slot(node) is not None]
                children += [replace(m, comment=words.IN_STAGES) for m in members_of(shared)]
                names = dict.fromkeys(region.name for region in regions)
            comment = self._comments.get(section)
            children += [Member(name, self._children[section, name], comment) for name in names]
        own = [
            replace(member, thing=replace(member.thing, outputs="num_classes"))
            for member in members_of(self._plan.sections[Section(Part.CLASSIFIER)])
            if isinstance(member.thing, Dense)
        ]
        return (*drawing, *children, *own)

    def network_body(
        self, parts: Sequence[Part], names: Names, results: Sequence[Value] = ()
    ) -> Body:
        """Return the calls of the sections of some parts; ``names`` is read and extended."""
        statements: list[Statement] = []
        for section, nodes in self._plan.sections.items():
            if section.part not in parts:
                continue
            if self._plan.is_inline(section):
                statements += [each for node in nodes for each in self._inline(node, names)]
                continue
            if section.part is not Part.BLOCK:
                regions = self._plan.regions[section]
                statements += [self._call(region, names) for region in regions]
                continue
            x0 = Local(names[self._plan.block_input(section)])
            drawn = [Local(names[value]) for value in self._plan.drawn(section)]
            targets = tuple(self._block_results(section, names))
            call = CallChild(str(section), (x0, *drawn, VersionsOf(str(section))))
            statements.append(Statement(targets, call, origins=_origins(nodes)))
            statements += self._block_outputs(section, names)
        returned = tuple(self._plan.variable(value, names[value]) for value in results)
        return Body(tuple(statements), returned)

    def _call(self, region: Region, names: Names) -> Statement:
        """The call of a section that is no block; of a readout, in one stage."""
        arguments = self._plan.arguments(region.nodes, names)
        slots = arguments_of(region.nodes).items()
        shared = tuple((name, BankSlice(member_name(slot), None, None)) for slot, name in slots)
        targets = []
        for value in self._plan.returned(results_of(self._plan.graph, region.nodes)):
            if region.section.part is Part.READOUT:
                names[value] = self._of_readout(region.nodes[-1])
                self.variables[names[value]] = self._plan.variable(value, names[value])
            else:
                names[value] = "entry" if value in self._plan.moments else "x"
            targets.append(names[value])
        call = CallChild(region.name, arguments, shared)
        return Statement(tuple(targets), call, origins=_origins(region.nodes))

    def _of_readout(self, node: Node) -> str:
        """The name of a readout's result: ``pooled1``, or ``pooled1_2`` of stage 2."""
        name, stage = f"{node.output.hint}{node.origin.section.index}", node.origin.stage
        return name if stage is None else f"{name}_{stage}"

    def _block_results(self, section: Section, names: Names) -> Iterator[str]:
        """Name the results of a block, in order."""
        results = self._results[section]
        for value in self._plan.returned(results.direct):
            is_feature = value in self._plan.graph.features or value in results.stages
            prefix = "feature" if is_feature else value.hint
            name = names[value] = results.name(value, prefix, section.index)
            self.variables[name] = self._plan.variable(value, name)
            yield name
        for gather, name in results.lists.items():
            yield self._name_list(gather, name, section, names)

    def _name_list(self, gather: Gather, name: str, section: Section, names: Names) -> str:
        names[gather] = self._results[section].name(gather, name, section.index)
        self.variables[names[gather]] = Variable(names[gather], gather.kind)
        return names[gather]

    def _block_outputs(self, section: Section, names: Names) -> Iterator[Statement]:
        """The block feature and the transit, from X0 and the lists that a block returned."""
        results = self._results[section]
        for gather, name in results.made.items():
            value = self._plan.listed(gather, names)
            yield Statement((self._name_list(gather, name, section, names),), value, declares=True)
        for node in () if results.concatenates else results.concats:
            gathered = apply(node, (self._gathered(node, names),), own_member)
            (reader, *others) = self._plan.graph.consumers[node.output]
            if not others and reader.origin.section.part is Part.TRANSITION:
                self._plan.inline[node.output] = gathered
                continue
            name = results.name(node.output, node.output.hint, section.index)
            names[node.output] = name
            self.variables[name] = Variable(name, Kind.TENSOR)
            yield Statement((name,), gathered, declares=True)

    def _gathered(self, node: Node, names: Names) -> Expression:
        """The inputs of a concatenation: a list of maps, or the maps of a list of features."""
        features = Gather(node.inputs, True)
        if features in names:
            return MapsOf(Local(names[features]), is_list=True)
        return self._plan.listed(Gather(node.inputs, False), names)

    def features_body(self, names: Names) -> Body:
        """Return the block features, concatenated here if the blocks returned lists."""
        statements = []
        returned = []
        for index, value in enumerate(self._plan.graph.features, start=1):
            node = self._plan.graph.producers[value]
            name = f"maps{index}"
            if node in self._plan.joined:
                names[value] = name
                joined = apply(node, (self._gathered(node, names),), own_member)
                statements.append(Statement((name,), joined, declares=True))
            elif value in self._plan.moments:
                statements.append(Statement((name,), self._plan.maps(value, names), declares=True))
            else:
                name = names[value]
            returned.append(Variable(name, Kind.TENSOR))
        return Body(tuple(statements), tuple(returned))

    def _inline(self, node: Node, names: Names) -> Iterator[Statement]:
        """A node of a section that has no class of its own."""
        read = tuple(self._plan.maps(value, names) for value in node.inputs)
        is_list = isinstance(node.op, Concat | Stack)
        arguments: tuple[Expression, ...] = (Sources(read),) if is_list else read
        value = apply(node, arguments, own_member)
        is_readout = node.origin.section.part is Part.READOUT
        if not is_readout and node.origin.stage is not None:
            self._plan.inline[node.output] = value  # of one stage: an item of their stack
            return
        name = names[node.output] = self._of_readout(node) if is_readout else node.output.hint
        yield Statement((name,), value, declares=True, origins=(node.origin,))


def _origins(nodes: Iterable[Node]) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys(node.origin for node in nodes))


def _members_in_step(nodes: Sequence[Node]) -> Callable[[Node], tuple[Expression, ...]]:
    """The members of nodes in an update: what stages share is an argument, others are its own."""
    names = arguments_of(nodes)

    def member(node: Node) -> tuple[Expression, ...]:
        slot = shared_slot(node)
        return own_member(node) if slot is None else (Local(names[slot]),)

    return member


def _kind(node: Node) -> Kind:
    """The kind of an argument that has the tensors of a node."""
    return Kind.KERNEL if is_bare(node.operands[0].param.slot) else Kind.LAYER


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a class's call, the expression of each value, and the name of the list.

    ``features`` are the values with their moments; ``names`` includes their maps.
    """

    variables: tuple[Variable, ...]
    names: dict[Value, Expression]
    sources: str | None
    features: dict[Value, Expression]


def _inputs(nodes: Sequence[Node]) -> _Inputs:
    inputs = given_to(nodes)
    namespace = Namespace()
    names = {value: namespace.unique("x") for value in (*inputs.maps, *inputs.features)}
    variables = [Variable(names[value], Kind.TENSOR) for value in inputs.maps]
    variables += [Variable(names[value], Kind.FEATURE) for value in inputs.features]
    sources = None
    if inputs.gathered:
        sources = namespace.unique("sources")
        variables.append(Variable(sources, inputs.gathered.kind))
    drawn = {value: namespace.unique(value.hint) for value in inputs.drawn}
    variables += [Variable(name, Kind.TENSOR) for name in drawn.values()]
    names_of = arguments_of(nodes)
    kinds = {names_of[slot]: _kind(node) for node in nodes if (slot := shared_slot(node))}
    variables += [Variable(name, kind) for name, kind in kinds.items()]
    features: dict[Value, Expression] = {v: Local(names[v]) for v in inputs.features}
    maps: dict[Value, Expression] = {v: Local(names[v]) for v in inputs.maps}
    maps |= {value: Local(name) for value, name in drawn.items()}
    maps |= {v: MapsOf(Local(names[v])) for v in inputs.features}
    return _Inputs(tuple(variables), maps, sources, features)


def _network_doc(steps: StepGraph) -> str:
    network = steps.network
    images = network.input
    blocks = "1 block" if len(steps.blocks) == 1 else f"{len(steps.blocks)} blocks"
    return (
        f"{network.name}: {blocks}, images of {images.height}×{images.width} "
        f"in {images.channels} channel{'s' * (images.channels > 1)}."
    )
