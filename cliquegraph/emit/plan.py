"""What the classes of a file are made of: the plan that ``outline`` turns into views.

Regions that do the same but for their widths and strides share a class. Where the readers of a
block gather the maps themselves, it returns them in lists.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from cliquegraph.emit.body import results_of
from cliquegraph.emit.members import free_inputs, signature
from cliquegraph.emit.names import Namespace
from cliquegraph.emit.regions import Gather, Region, Values, given_to, steps_of
from cliquegraph.emit.view import Expression, Kind, Local, MapsOf, Sources, Spread, Variable
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Moments
from cliquegraph.ir.types import Part, Section
from cliquegraph.ir.units import units_of
from cliquegraph.steps.graph import BlockSteps, StepGraph

Names = dict[Value | Gather, str]
"""What values, and lists of them, are called. Maps and their moments are one feature."""


@dataclass(frozen=True)
class BlockResults:
    """What is read of a block outside, and how it gets there.

    Attributes:
        direct: values that it returns by themselves.
        lists: lists that it returns, and what they are called.
        made: lists that the network makes of X0 and one of those.
        concats: the concatenations that make the block feature and the transit; the network's,
            unless the block returns nothing else.
    """

    direct: Values
    lists: dict[Gather, str]
    made: dict[Gather, str]
    concats: tuple[Node, ...]

    @property
    def concatenates(self) -> bool:
        """Whether the block makes its feature itself."""
        return not self.lists


class Plan:
    """The regions of a network, what each returns, and how values reach those who read them.

    Attributes:
        graph: the op graph.
        blocks: the step graphs of its blocks, by index.
        units: the nodes that run as one call, by the last.
        joined: nodes that make a block feature which nothing in the network reads: it is made
            where it is returned.
        sections: the other nodes, by section.
        regions: what becomes one call each, by section; the classifier has none.
        moments: the moments of values that have them.
        inline: values that stand where they are read, without a name.
    """

    def __init__(self, steps: StepGraph, graph: Graph) -> None:
        self.graph = graph
        self.blocks = {block.index: block for block in steps.blocks}
        self.units = units_of(graph)
        self.joined = graph.unread_features
        self.sections: dict[Section, list[Node]] = {}
        for node in graph.nodes[1:]:
            if node not in self.joined:
                self.sections.setdefault(node.origin.section, []).append(node)
        self.inline: dict[Value, Expression] = {}
        self.moments = {
            node.inputs[0]: node.output
            for node in (*graph.nodes, *graph.idle)
            if isinstance(node.op, Moments)
        }
        idle: dict[Section, list[Node]] = {}
        for node in graph.idle:
            idle.setdefault(node.origin.section, []).append(node)
        self.regions: dict[Section, list[Region]] = {}
        for section, nodes in self.sections.items():
            if section.part is Part.BLOCK:
                block = self.blocks[section.index]
                held = [
                    replace(region, idle=True)
                    for region in steps_of(section, idle.get(section, []), block)
                ]
                self.regions[section] = [*steps_of(section, nodes, block), *held]
            elif not self.is_inline(section):
                self.regions[section] = [Region(section, tuple(nodes))]

    def is_inline(self, section: Section) -> bool:
        """Tell whether the network's own methods write a section's nodes.

        Those of the classifier, and of a readout that is nothing but the global pool.
        """
        is_pool = section.part is Part.READOUT and len(self.sections[section]) == 1
        return section.part is Part.CLASSIFIER or is_pool

    def shared(self) -> Iterator[list[Region]]:
        """Yield the regions that share a class, in the order of their first.

        They do the same but for widths and for the strides that their members hold.
        """
        alike: dict[Hashable, list[Region]] = {}
        for region in (region for each in self.regions.values() for region in each):
            results = self.results(region)
            returned = tuple(node.output in results for node in region.nodes)
            units = tuple(len(self.units[n].nodes) if n in self.units else 0 for n in region.nodes)
            key = (region.section.part, signature(region.nodes), returned, units)
            alike.setdefault(key, []).append(region)
        yield from alike.values()

    def results(self, region: Region) -> Values:
        """Return what the call of a region returns; the last value where none is read."""
        return results_of(self.graph, region.nodes) or (region.nodes[-1].output,)

    def returned(self, values: Values) -> Values:
        """Return what is returned for values: maps and their moments are one feature."""
        moments = {self.moments[value] for value in values if value in self.moments}
        return tuple(value for value in values if value not in moments)

    def variable(self, value: Value, name: str) -> Variable:
        """Return the variable that holds a value."""
        return Variable(name, Kind.FEATURE if value in self.moments else Kind.TENSOR)

    def maps(self, value: Value, names: Names) -> Expression:
        """Return a value by itself, without its moments."""
        if value in self.inline:
            return self.inline[value]
        local = Local(names[value])
        return MapsOf(local) if value in self.moments else local

    def block_input(self, section: Section) -> Value:
        """Return X0 of a block."""
        (x0,) = self.returned(free_inputs(self.sections[section]))
        return x0

    def block_results(self, block: BlockSteps, section: Section) -> BlockResults:
        """Return how what is read of a block outside gets there."""
        nodes = self.sections[section]
        x0 = self.block_input(section)
        inside = {value for node in nodes for value in node.outputs}
        joined = self.graph.producers[self.graph.features[block.index - 1]]
        gathers = {
            gather: None
            for other, region in self.sections.items()
            if other.part in (Part.READOUT, Part.TRANSITION) and other.index == section.index
            if (gather := given_to(region).gathered) and not inside.isdisjoint(gather.values)
        }
        if joined in self.joined and Gather(joined.inputs, True) not in gathers:
            gathers[Gather(joined.inputs, False)] = None
        concats = tuple(node for node in nodes if node.origin.layer is None)
        # Where X0 goes on with the rest, as in a dense block, it is the block that puts it there.
        with_x0 = block.transit == block.feature
        if with_x0 and not gathers:
            return BlockResults(self.returned(results_of(self.graph, nodes)), {}, {}, concats)
        # What is gathered with moments too is concatenated from there.
        bare = [node for node in concats if Gather(node.inputs, True) not in gathers]
        wanted = [*gathers, *(Gather(node.inputs, False) for node in bare)]
        wanted.sort(key=lambda gather: gather.values != joined.inputs)
        cores = {
            gather: replace(gather, values=gather.values[1:])
            if gather.values[0] is x0 and not with_x0
            else gather
            for gather in wanted
        }
        of = {
            gather: "feature" if gather.values == joined.inputs else "transit" for gather in wanted
        }
        taken = {node.output.hint for node in concats}

        def name_of(gather: Gather) -> str:
            name = of[gather]
            if not gather.features:
                return f"{name}_maps"
            return f"{name}_layers" if name in taken else name

        namespace = Namespace()
        lists = dict.fromkeys(cores.values(), "")
        for gather, core in cores.items():
            if core in gathers:
                lists[core] = name_of(core)
            elif not lists[core]:
                lists[core] = "layers" if len(lists) == 1 else f"{of[gather]}_layers"
        lists = {core: namespace.unique(name) for core, name in lists.items()}
        made = {gather: name_of(gather) for gather in gathers if gather not in lists}
        listed = {value for core in lists for value in core.values}
        steps = [node for node in nodes if node.origin.layer is not None]
        results = self.returned(results_of(self.graph, steps))
        direct = tuple(value for value in results if value not in listed)
        return BlockResults(direct, lists, made, concats)

    def arguments(self, nodes: Sequence[Node], names: Names) -> tuple[Expression, ...]:
        """Return the arguments of a class's call, as a block or the network calls the member."""
        given = given_to(nodes)
        return (
            *(self.maps(value, names) for value in given.maps),
            *(Local(names[value]) for value in given.features),
            *([self.listed(given.gathered, names)] if given.gathered else ()),
        )

    def listed(self, gather: Gather, names: Names) -> Expression:
        """Return a list of values: the variable that holds it, or one of their names.

        In the network, where the layers of a block have no names, it is X0 and the others' list.
        """
        if gather in names:
            return Local(names[gather])
        first, *others = gather.values
        rest = Gather(tuple(others), gather.features)
        if rest in names:
            return Sources((self._item(first, gather, names), Spread(Local(names[rest]))))
        return Sources(tuple(self._item(value, gather, names) for value in gather.values))

    def _item(self, value: Value, gather: Gather, names: Names) -> Expression:
        return Local(names[value]) if gather.features else self.maps(value, names)
