"""Statements for a straight run of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from cliquegraph.emit.members import free_inputs, gathers, kernel_slot
from cliquegraph.emit.view import Apply, Body, Expression, Local, Sources, Statement
from cliquegraph.ir.graph import Graph, Node, Value
from cliquegraph.ir.ops import Concat, Dropout, Op, Relu, Sigmoid
from cliquegraph.ir.types import MapType

NESTING: tuple[type[Op], ...] = (Relu, Sigmoid, Dropout)
"""Ops that are written around what they apply to, ``relu(norm(x))``."""

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
    inputs: Mapping[Value, str],
    results: Sequence[Value],
    members: Members,
    sources: str | None = None,
) -> Body:
    """Write a run of nodes with few names: maps are ``x``, vectors ``z``, re-used when dead.

    Args:
        nodes: the run.
        inputs: the names of what comes from outside.
        results: what is returned.
        members: how a node's member is written here.
        sources: the parameter that holds what the first concatenation gathers, if it is one.
    """
    free = free_inputs(nodes)
    uses = Counter(value for node in nodes for value in node.inputs)
    last_use = {value: i for i, node in enumerate(nodes) for value in node.inputs}
    for value in results:
        last_use[value] = len(nodes)
    names = dict(inputs)
    nested: dict[Value, Expression] = {}
    statements: list[Statement] = []
    declared = set(names.values())

    def read(value: Value) -> Expression:
        return nested.pop(value) if value in nested else Local(names[value])

    for i, node in enumerate(nodes):
        arguments: tuple[Expression, ...]
        if sources is not None and gathers(node, free):
            arguments = (Local(sources),)
        elif isinstance(node.op, Concat):
            arguments = (Sources(tuple(Local(names[value]) for value in node.inputs)),)
        else:
            arguments = tuple(read(value) for value in node.inputs)
        expression = apply(node, arguments, members)
        value = node.output
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
        held = {names[v] for v, last in last_use.items() if last > i and v in names}
        name = base = "x" if isinstance(value.type, MapType) else "z"
        count = 1
        while name in held:
            count += 1
            name = f"{base}{count}"
        names[value] = name
        statements.append(Statement((name,), expression, declares=name not in declared))
        declared.add(name)
    return Body(tuple(statements), tuple(names[value] for value in results))
