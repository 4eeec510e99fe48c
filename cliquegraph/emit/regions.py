"""Which nodes become one call, and the inputs of a call: the analysis behind ``outline``.

The nodes of one update form a region, as do those of a section other than a block, or those of each
stage of a readout over time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cliquegraph.emit.members import free_inputs, gathers
from cliquegraph.emit.names import section_name, step_name, update_name
from cliquegraph.emit.view import Kind
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Normalize
from cliquegraph.ir.types import MomentsType, Section, WeightsType
from cliquegraph.steps.graph import BlockSteps, Step

Values = tuple[Value, ...]


@dataclass(frozen=True)
class Region:
    """Nodes that become the call of one member.

    With ``idle`` the member is unused but retained for its parameters, and never called.
    """

    section: Section
    nodes: tuple[Node, ...]
    step: Step | None = None
    idle: bool = False

    @property
    def name(self) -> str:
        """The name of the member that is called."""
        if self.step is not None:
            return update_of(self.nodes)
        slots = (operand.param.slot for node in self.nodes for operand in node.operands)
        names = (name for slot in slots if (name := section_name(slot)))
        return next(names, str(self.section))

    @property
    def stage(self) -> int | None:
        """The stage, of an update or of a readout over time."""
        return self.nodes[0].origin.stage


def update_of(nodes: Sequence[Node]) -> str:
    """Return the name of the member that is called for the nodes of one update."""
    slots = [operand.param.slot for node in nodes for operand in node.operands]
    names = (name for slot in slots if (name := step_name(slot)))
    origin = nodes[0].origin
    return next(names, update_name(origin.layer or 0, origin.stage))


@dataclass(frozen=True)
class Gather:
    """Values that a region takes as a list: features, or maps without moments."""

    values: Values
    features: bool

    @property
    def kind(self) -> Kind:
        """The kind of a variable for it."""
        return Kind.FEATURES if self.features else Kind.MAPS


def steps_of(section: Section, nodes: Iterable[Node], block: BlockSteps) -> list[Region]:
    """Return the regions of a block, in the order of its steps."""
    by_place: dict[tuple[int | None, int | None], list[Node]] = {}
    for node in nodes:
        by_place.setdefault((node.origin.stage, node.origin.layer), []).append(node)
    places = [(step, by_place.get((step.stage, step.layer))) for step in block.steps]
    return [Region(section, tuple(region), step) for step, region in places if region]


def stages_of(section: Section, nodes: Iterable[Node]) -> list[Region]:
    """Return the regions of a section other than a block: one for each stage that it has."""
    by_stage: dict[int | None, list[Node]] = {}
    for node in nodes:
        by_stage.setdefault(node.origin.stage, []).append(node)
    return [Region(section, tuple(each)) for each in by_stage.values()]


@dataclass(frozen=True)
class Given:
    """The inputs of a region: single maps and features, a list, and what the network drew."""

    maps: Values
    features: Values
    gathered: Gather | None
    drawn: Values


def given_to(nodes: Sequence[Node]) -> Given:
    """Return the inputs of a region.

    If it gathers one list, that is an input; values of several lists are inputs one by one.
    """
    free = free_inputs(nodes)
    normalized = {node.inputs[0] for node in nodes if isinstance(node.op, Normalize)}
    lists = {Gather(n.inputs, n.output in normalized) for n in nodes if gathers(n, free)}
    gathered = lists.pop() if len(lists) == 1 else None
    listed = gathered.values if gathered else ()
    normalized.update(value for each in lists if each.features for value in each.values)
    drawn = tuple(value for value in free if isinstance(value.type, WeightsType))
    others = {*listed, *drawn}
    single = [
        value for value in free if value not in others and not isinstance(value.type, MomentsType)
    ]
    return Given(
        maps=tuple(value for value in single if value not in normalized),
        features=tuple(value for value in single if value in normalized),
        gathered=gathered,
        drawn=drawn,
    )
