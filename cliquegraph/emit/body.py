"""Statements for a straight run of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from cliquegraph.emit.members import free_inputs, gathers, kernel_slot
from cliquegraph.emit.view import (
    Apply,
    Body,
    Expression,
    Feature,
    Kind,
    Local,
    Sources,
    Statement,
    Unit,
    Variable,
    walk,
)
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat, Conv, Dropout, Moments, Normalize, Op, Relu, Sigmoid
from cliquegraph.ir.types import MapType, MaskType
from cliquegraph.ir.units import UnitNodes

NESTING: tuple[type[Op], ...] = (Relu, Sigmoid, Dropout)
"""Ops that are written around what they apply to, ``relu(norm(x))``."""

_BASES = {MapType: "x", MaskType: "keep"}
"""What values are called by their type; others are ``z``."""

Members = Callable[[Node], tuple[Expression, ...]]


def results_of(graph: Graph, nodes: Sequence[Node]) -> tuple[Value, ...]:
    """Return what nodes write and others read, or the network returns."""
    inside = set(nodes)
    returned = set(graph.outputs)
    return tuple(
        value
        for node in nodes
        for value in node.outputs
        if value in returned
        or any(reader not in inside for reader in graph.consumers.get(value, ()))
    )


def apply(node: Node, arguments: tuple[Expression, ...], members: Members) -> Apply:
    """Return a node as an expression over its arguments."""
    return Apply(node.op, arguments, members(node), kernel_slot(node) is not None)


def straight_body(
    nodes: Sequence[Node],
    inputs: Mapping[Value, Expression],
    results: Sequence[Value],
    members: Members,
    units: Mapping[Node, UnitNodes],
    sources: str | None = None,
) -> Body:
    """Write a run of nodes with few names: maps are ``x``, vectors ``z``, re-used when dead.

    Args:
        nodes: the run.
        inputs: what comes from outside, by itself.
        results: what is returned; maps and their moments as one feature.
        members: how a node's member is written here.
        units: the graph's, by their last node.
        sources: the parameter that holds what the first concatenation gathers, if it is one.
    """
    free = free_inputs(nodes)
    inner = {inside for node in nodes if node in units for inside in units[node].nodes[:-1]}
    uses = Counter(value for node in nodes for value in node.inputs)
    last_use = {value: i for i, node in enumerate(nodes) for value in node.inputs}
    for value in results:
        last_use[value] = len(nodes)
    names: dict[Value, str] = {}
    nested: dict[Value, Expression] = {}
    statements: list[Statement] = []
    given = {
        value: {part.name for part in walk(each) if isinstance(part, Local)}
        for value, each in inputs.items()
    }
    declared = set().union(*given.values())
    feature: dict[Value, str] = {}

    def read(value: Value) -> Expression:
        if value in nested:
            return nested.pop(value)
        return Local(names[value]) if value in names else inputs[value]

    def side_by_side(node: Node) -> Expression:
        """What a concatenation reads, as a list."""
        if sources is not None and gathers(node, free):
            return Local(sources)
        return Sources(tuple(read(value) for value in node.inputs))

    def unit(of: UnitNodes) -> Unit:
        reader = of.concat or of.norm
        assert reader is not None  # noqa: S101  # a unit has one of them
        return Unit(
            sources=side_by_side(reader) if of.concat else Sources((read(reader.inputs[0]),)),
            norm=None if of.norm is None else members(of.norm)[0],
            given=of.norm is not None and isinstance(of.norm.op, Normalize),
            conv=of.conv.op if of.conv is not None and isinstance(of.conv.op, Conv) else None,
            kernel=None if of.conv is None else members(of.conv)[0],
            banked=of.conv is not None and kernel_slot(of.conv) is not None,
            recompute=of.recompute,
        )

    for i, node in enumerate(nodes):
        if node in inner:
            continue
        value = node.output
        expression: Expression
        if node in units:
            expression = unit(units[node])
        elif isinstance(node.op, Concat):
            expression = apply(node, (side_by_side(node),), members)
        else:
            expression = apply(node, tuple(read(each) for each in node.inputs), members)
        if isinstance(node.op, Moments):
            (of,) = node.inputs
            feature[of] = feature[value] = "feature"
            made = Feature(Local(names[of]), expression)
            statements.append(Statement(("feature",), made))
            continue
        reader = nodes[i + 1] if i + 1 < len(nodes) else None
        if (
            reader is not None
            and isinstance(reader.op, NESTING)
            and reader.inputs == (value,)
            and uses[value] == 1
            and value not in results
        ):
            nested[value] = expression
            continue
        alive = [v for v, last in last_use.items() if last > i]
        held = {names[v] for v in alive if v in names}.union(*(given.get(v, ()) for v in alive))
        name = base = _BASES.get(type(value.type), "z")
        count = 1
        while name in held:
            count += 1
            name = f"{base}{count}"
        names[value] = name
        statements.append(Statement((name,), expression, declares=name not in declared))
        declared.add(name)
    returned = dict.fromkeys(
        Variable(feature[value], Kind.FEATURE)
        if value in feature
        else Variable(names[value], Kind.TENSOR)
        for value in results
    )
    return Body(tuple(statements), tuple(returned))
