"""The plan of a file's classes, which ``outline`` turns into views.

Regions that differ only in widths and strides share a class. Where the readers of a block gather
the maps themselves, the block returns them in lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cliquegraph.emit.body import results_of
from cliquegraph.emit.members import free_inputs, signature
from cliquegraph.emit.names import Namespace
from cliquegraph.emit.regions import Gather, Region, Values, given_to, stages_of, steps_of
from cliquegraph.emit.view import Expression, Kind, Local, MapsOf, Sources, Spread, Variable
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat, Mean, Moments
from cliquegraph.ir.types import Part, Section, WeightsType
from cliquegraph.ir.units import units_of
from cliquegraph.steps.graph import BlockSteps, StepGraph

Names = dict[Value | Gather, str]
"""Names of values, and of lists of them. Maps and their moments are one feature."""


@dataclass(frozen=True)
class BlockResults:
    """The values of a block that are read outside, and how it returns them.

    Attributes:
        direct: values that it returns by themselves.
        lists: lists that it returns, with their names.
        made: lists that the network makes from X0 and one of those, with their names.
        concats: the concatenations for block feature and transit; in the network, unless the
            block returns nothing else.
        stages: of what a readout over time reads, the stage.
    """

    direct: Values
    lists: dict[Gather, str]
    made: dict[Gather, str]
    concats: tuple[Node, ...]
    stages: dict[Value | Gather, int] = field(default_factory=dict)

    @property
    def concatenates(self) -> bool:
        """Whether the block concatenates its feature itself."""
        return not self.lists

    def name(self, result: Value | Gather, base: str, index: int | None = None) -> str:
        """Return the name of a result, in the block, or in the network with the block's index."""
        name = base if index is None else f"{base}{index}"
        return f"{name}_{self.stages[result]}" if result in self.stages else name


class Plan:
    """The regions of a network, their results, and how values reach their readers.

    Attributes:
        graph: the op graph.
        blocks: the step graphs of its blocks, by index.
        units: the nodes that run as one call, by the last.
        joined: nodes of block features that nothing in the network reads: these are concatenated
            where they are returned.
        sections: the other nodes, by section.
        regions: the regions that become one call each, by section; the classifier has none.
        moments: the moments of values that have them.
        inline: expressions of values that are not assigned to a name.
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
                unused = [
                    replace(region, idle=True)
                    for region in steps_of(section, idle.get(section, []), block)
                ]
                self.regions[section] = [*steps_of(section, nodes, block), *unused]
            elif not self.is_inline(section):
                self.regions[section] = stages_of(section, nodes)

    def is_inline(self, section: Section) -> bool:
        """Tell whether a section's nodes are printed in the network's own methods.

        So are what belongs to the network, the classifier and a readout that is only the global
        pool.
        """
        regions = stages_of(section, self.sections[section])
        is_pool = section.part is Part.READOUT and all(len(each.nodes) == 1 for each in regions)
        return section.part in (Part.NETWORK, Part.CLASSIFIER) or is_pool

    def shared(self) -> Iterator[list[Region]]:
        """Yield the regions that share a class, in the order of their first.

        They differ only in widths and in the strides of their members.
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
        """Return the results of a region's call; the last value if none is read."""
        return results_of(self.graph, region.nodes) or (region.nodes[-1].output,)

    def returned(self, values: Values) -> Values:
        """Return the values to return: maps and their moments are one feature."""
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

    def means(self, section: Section) -> Iterator[Node]:
        """Yield the outputs of a block that are means of layers."""
        for node in self.sections[section]:
            if node.origin.layer is None and isinstance(node.op, Mean):
                yield node

    def block_input(self, section: Section) -> Value:
        """Return X0 of a block."""
        free = self.returned(free_inputs(self.sections[section]))
        (x0,) = (value for value in free if not isinstance(value.type, WeightsType))
        return x0

    def drawn(self, section: Section) -> Values:
        """Return what a block reads that the network drew."""
        return given_to(self.sections[section]).drawn

    def block_results(self, block: BlockSteps, section: Section) -> BlockResults:
        """Return the values of a block that are read outside, and how it returns them."""
        nodes = self.sections[section]
        x0 = self.block_input(section)
        inside = {value for node in nodes for value in node.outputs}
        joined = self.graph.producers[self.graph.features[block.index - 1]]
        gathers = {
            gather: None
            for region in self._readers(section)
            if (gather := given_to(region.nodes).gathered) and not inside.isdisjoint(gather.values)
        }
        if joined in self.joined and Gather(joined.inputs, True) not in gathers:
            gathers[Gather(joined.inputs, False)] = None
        concats = tuple(
            node for node in nodes if node.origin.layer is None and isinstance(node.op, Concat)
        )
        stages = self._stages(section, (*concats, *self.joined.intersection([joined])))
        # Where the transit includes X0, as in a dense block, the block itself adds it.
        with_x0 = block.has_one_output
        if with_x0 and not gathers:
            results = self.returned(results_of(self.graph, nodes))
            return BlockResults(results, {}, {}, concats, stages)
        # Values that are also gathered with moments are concatenated from that list.
        bare = [node for node in concats if Gather(node.inputs, True) not in gathers]
        needed = [*gathers, *(Gather(node.inputs, False) for node in bare)]
        needed.sort(key=lambda each: (stages.get(each, 0), each.values != joined.inputs))
        cores = {
            gather: replace(gather, values=gather.values[1:])
            if gather.values[0] is x0 and not with_x0
            else gather
            for gather in needed
        }
        stages |= {core: stages[gather] for gather, core in cores.items() if gather in stages}
        prefixes = {
            gather: "feature" if gather.values == joined.inputs or gather in stages else "transit"
            for gather in needed
        }
        taken = {node.output.hint for node in concats}

        def name_of(gather: Gather) -> str:
            name = prefixes[gather]
            if not gather.features:
                return f"{name}_maps"
            return f"{name}_layers" if name in taken else name

        namespaces: defaultdict[int | None, Namespace] = defaultdict(Namespace)
        lists = dict.fromkeys(cores.values(), "")
        alone = len({stages.get(core) for core in lists}) == len(lists)
        for gather, core in cores.items():
            if core in gathers:
                lists[core] = name_of(core)
            elif not lists[core]:
                lists[core] = "layers" if alone else f"{prefixes[gather]}_layers"
        # Each stage has names of its own.
        lists = {core: namespaces[stages.get(core)].unique(name) for core, name in lists.items()}
        made = {gather: name_of(gather) for gather in gathers if gather not in lists}
        listed = {value for core in lists for value in core.values}
        steps = [node for node in nodes if node not in concats]
        results = self.returned(results_of(self.graph, steps))
        direct = tuple(v for v in results if v not in listed or self._is_read_alone(v, section))
        return BlockResults(direct, lists, made, concats, stages)

    def _readers(self, section: Section) -> Iterator[Region]:
        """Yield the regions of the boundaries that read the outputs of a block."""
        for other, nodes in self.sections.items():
            if other.part in (Part.READOUT, Part.TRANSITION) and other.index == section.index:
                yield from stages_of(other, nodes)

    def _stages(self, section: Section, concats: Iterable[Node]) -> dict[Value | Gather, int]:
        """The stages of what a readout over time reads: of values, and of lists of them."""
        stages: dict[Value | Gather, int] = {}
        for region in self._readers(section):
            inputs = given_to(region.nodes)
            lists = (inputs.gathered,) if inputs.gathered else ()
            for read in (*inputs.maps, *inputs.features, *lists):
                if region.stage is not None:
                    stages.setdefault(read, region.stage)
        for node in concats:
            if node.origin.stage is not None:
                stages.setdefault(Gather(node.inputs, False), node.origin.stage)
        return stages

    def _is_read_alone(self, value: Value, section: Section) -> bool:
        """Whether something outside a section reads a value by itself, not in a list."""
        outside = (n for n in self.graph.consumers.get(value, ()) if n.origin.section != section)
        by_a_node = any(not isinstance(node.op, Concat) for node in outside)
        return by_a_node or value in self.graph.outputs

    def arguments(self, nodes: Sequence[Node], names: Names) -> tuple[Expression, ...]:
        """Return the arguments of a member's call in a block or the network."""
        inputs = given_to(nodes)
        return (
            *(self.maps(value, names) for value in inputs.maps),
            *(Local(names[value]) for value in inputs.features),
            *([self.listed(inputs.gathered, names)] if inputs.gathered else ()),
            *(Local(names[value]) for value in inputs.drawn),
        )

    def listed(self, gather: Gather, names: Names) -> Expression:
        """Return a list of values: its variable, or a list of their names.

        In the network, where the layers of a block have no names, it is X0 and the list of layers.
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
