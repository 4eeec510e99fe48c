"""Statements for a straight-line sequence of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from types import MappingProxyType

from cliquegraph.emit.members import free_inputs, gathers, shared_slot
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
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.ops import (
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    Moments,
    Normalize,
    Op,
    Relu,
    Sigmoid,
)
from cliquegraph.ir.types import MapType, MaskType, WeightsType
from cliquegraph.ir.units import UnitNodes

_AROUND: dict[type[Op], tuple[type[Op], ...]] = {
    Relu: (Op,),
    Sigmoid: (Op,),
    Dropout: (Op,),
    BatchNorm: (Conv,),
}
"""Ops that are nested with their input in one expression, ``relu(norm(conv(x)))``."""

_LETTERS: dict[type, Sequence[str]] = {
    MapType: "xy",
    MaskType: ("keep",),
    WeightsType: ("weights",),
}
"""Names of values, by type; others are ``z``."""

Members = Callable[[Node], tuple[Expression, ...]]


def _names(letters: Sequence[str]) -> Iterator[str]:
    """``x``, ``y``, ``y2``, ``y3``, … for the letters ``x`` and ``y``."""
    yield from letters
    yield from (f"{letters[-1]}{number}" for number in count(2))


def results_of(graph: Graph, nodes: Sequence[Node]) -> tuple[Value, ...]:
    """Return the values that nodes write and others read or the network returns."""
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
    return Apply(node.op, arguments, members(node), shared_slot(node) is not None)


def straight_body(
    nodes: Sequence[Node],
    inputs: Mapping[Value, Expression],
    results: Sequence[Value],
    members: Members,
    units: Mapping[Node, UnitNodes],
    sources: str | None = None,
    features: Mapping[Value, Expression] = MappingProxyType({}),
    argument: Callable[[Node], str | None] = lambda node: None,
    alike: Sequence[Sequence[Node]] = (),
) -> Body:
    """Print a sequence of nodes with few names: maps are ``x``, vectors ``z``, reused when dead.

    Args:
        nodes: the sequence.
        inputs: the expressions of outside values, without moments.
        results: the values to return; maps and their moments as one feature.
        members: returns the expressions of a node's member.
        units: the graph's units, by their last node.
        sources: the parameter with the list that the first concatenation reads, if there is one.
        features: the expressions of outside values with their moments.
        argument: returns the constructor's argument for a number of a node, as in ``Apply``.
        alike: the sequences that share the class, including this one.
    """
    free = free_inputs(nodes)
    recomputed = {value for node in nodes if node.recompute for value in node.outputs}
    inner = {inside for node in nodes if node in units for inside in units[node].nodes[:-1]}
    uses = Counter(value for node in nodes for value in node.inputs)
    last_use = {value: i for i, node in enumerate(nodes) for value in node.inputs}
    for value in results:
        last_use[value] = len(nodes)
    names: dict[Value, str] = {}
    nested: dict[Value, Expression] = {}
    statements: list[Statement] = []
    locals_of = {
        value: {part.name for part in walk(each) if isinstance(part, Local)}
        for value, each in inputs.items()
    }
    declared = set().union(*locals_of.values())
    feature: dict[Value, str] = {}

    def origins_of(i: int) -> tuple[Origin, ...]:
        return tuple(dict.fromkeys(run[i].origin for run in alike or (nodes,)))

    def read(value: Value) -> Expression:
        if value in nested:
            return nested.pop(value)
        return Local(names[value]) if value in names else inputs[value]

    def listed(node: Node, *, with_moments: bool = False) -> Expression:
        """The inputs of a concatenation, as a list."""
        if sources is not None and gathers(node, free):
            return Local(sources)
        return Sources(
            tuple(
                features[value] if with_moments and value in features else read(value)
                for value in node.inputs
            )
        )

    def unit(parts: UnitNodes) -> Unit:
        reader = parts.concat or parts.norm
        assert reader is not None  # noqa: S101  # a unit has one of them
        given = parts.norm is not None and isinstance(parts.norm.op, Normalize)
        if parts.concat:
            maps = listed(reader, with_moments=given)
        else:
            (value, *_) = reader.inputs
            maps = Sources((features[value] if given and value in features else read(value),))
        return Unit(
            sources=maps,
            norm=None if parts.norm is None else members(parts.norm)[0],
            given=given,
            conv=parts.conv.op if parts.conv and isinstance(parts.conv.op, Conv) else None,
            kernel=None if parts.conv is None else members(parts.conv)[0],
            banked=parts.conv is not None and shared_slot(parts.conv) is not None,
            recompute=parts.recompute,
            pool=parts.pool.op if parts.pool and isinstance(parts.pool.op, AvgPool) else None,
        )

    for i, node in enumerate(nodes):
        if node in inner:
            continue
        value = node.output
        expression: Expression
        if node in units:
            expression = unit(units[node])
        elif isinstance(node.op, Concat):
            expression = apply(node, (listed(node),), members)
        else:
            applied = apply(node, tuple(read(each) for each in node.inputs), members)
            unsaved = any(each in recomputed for each in node.inputs)
            expression = replace(applied, argument=argument(node), recomputed=unsaved)
        if isinstance(node.op, Moments):
            (maps,) = node.inputs
            feature[maps] = feature[value] = "feature"
            pair = Feature(Local(names[maps]), expression)
            statements.append(Statement(("feature",), pair, origins=origins_of(i)))
            continue
        reader = nodes[i + 1] if i + 1 < len(nodes) else None
        if (
            reader is not None
            and isinstance(node.op, _AROUND.get(type(reader.op), ()))
            and not (isinstance(reader.op, BatchNorm) and (node in units or reader in inner))
            and reader.inputs == (value,)
            and uses[value] == 1
            and value not in results
        ):
            nested[value] = expression
            continue
        alive = [v for v, last in last_use.items() if last > i]
        used = {names[v] for v in alive if v in names}
        used = used.union(*(locals_of.get(v, ()) for v in alive))
        letters = _LETTERS.get(type(value.type), ("z",))
        name = next(name for name in _names(letters) if name not in used)
        names[value] = name
        declares = name not in declared
        statements.append(Statement((name,), expression, declares=declares, origins=origins_of(i)))
        declared.add(name)
    returned = dict.fromkeys(
        Variable(feature[value], Kind.FEATURE)
        if value in feature
        else Variable(names[value], Kind.TENSOR)
        for value in results
    )
    return Body(tuple(statements), tuple(returned))
