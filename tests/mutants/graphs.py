"""Mutants of an op graph: one change each of what a node reads, of its tensors or its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from random import Random
from typing import Any

from cliquegraph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Add, Concat, DrawColumn, JoinWeights, Keep, Zeros
from cliquegraph.ir.types import ParamSlice

Mutant = tuple[str, str, Graph]


def mutants(graph: Graph, random: Random) -> Iterator[Mutant]:
    """Return the kind of each mutant, what is changed, and the graph."""
    for node in graph.nodes[1:]:
        yield from _reads(graph, node, random)
        yield from _operands(graph, node, random)
        yield from _numbers(graph, node)
    yield from _features(graph, random)


def exchanged(graph: Graph, old: Node, new: Node) -> Graph:
    """The graph with another node in the place of one."""
    return replace(graph, nodes=tuple(new if node is old else node for node in graph.nodes))


def parts(graph: Graph, value: Value) -> tuple[Value, ...]:
    """What a value concatenates: two concatenations of the same are one value."""
    node = graph.producers[value]
    if not isinstance(node.op, Concat):
        return (value,)
    return tuple(part for each in node.inputs for part in parts(graph, each))


def _reads(graph: Graph, node: Node, random: Random) -> Iterator[Mutant]:
    if isinstance(node.op, Keep | DrawColumn | Zeros):
        return  # of its input only the type counts
    earlier = [v for each in graph.nodes[: graph.nodes.index(node)] for v in each.outputs]
    least = int(isinstance(node.op, JoinWeights))
    for place in range(least, len(node.inputs)):
        own = node.inputs[place]
        others = [v for v in earlier if v.type == own.type and parts(graph, v) != parts(graph, own)]
        for other in random.sample(others, min(2, len(others))):
            inputs = (*node.inputs[:place], other, *node.inputs[place + 1 :])
            what = f"{_title(node)} reads {_name(other)} for {_name(own)}"
            yield "read", what, exchanged(graph, node, replace(node, inputs=inputs))
    for place in range(least, len(node.inputs) - 1):
        one, other = node.inputs[place : place + 2]
        # A sum has no order, and two concatenations of the same are one.
        differ = parts(graph, one) != parts(graph, other) and not isinstance(node.op, Add)
        if one.type == other.type and differ:
            inputs = (*node.inputs[:place], other, one, *node.inputs[place + 2 :])
            what = f"{_title(node)} reads {_name(other)} before {_name(one)}"
            yield "order", what, exchanged(graph, node, replace(node, inputs=inputs))


def _operands(graph: Graph, node: Node, random: Random) -> Iterator[Mutant]:
    every = [operand for each in graph.nodes for operand in each.operands]
    for place, own in enumerate(node.operands):

        def changed(operand: ParamSlice, place: int = place) -> Graph:
            operands = (*node.operands[:place], operand, *node.operands[place + 1 :])
            return exchanged(graph, node, replace(node, operands=operands))

        for by in (-1, 1):
            start, stop = own.start + by, own.stop + by
            if start >= 0 and stop <= own.param.extent:
                what = f"{_title(node)} reads {_tensors(own)} from {start} to {stop}"
                yield "slice", what, changed(ParamSlice(own.param, start, stop))
        others = [
            each
            for each in dict.fromkeys(every)
            if each != own and each.shape == own.shape and each.param.field == own.param.field
        ]
        for other in random.sample(others, min(2, len(others))):
            kind = "kernel" if len(own.shape) > 1 else "statistic or scale"
            yield kind, f"{_title(node)} has {_tensors(other)} for {_tensors(own)}", changed(other)


def _numbers(graph: Graph, node: Node) -> Iterator[Mutant]:
    for field in fields(node.op):
        number = getattr(node.op, field.name)
        for other in _others(number):
            try:
                op = replace(node.op, **{field.name: other})
                wrong = exchanged(graph, node, replace(node, op=op))
            except (ValueError, TypeError):
                continue
            yield field.name, f"{_title(node)} with {field.name} {other!r} for {number!r}", wrong


def _others(number: Any) -> Iterator[Any]:
    if isinstance(number, bool):
        yield not number
    elif isinstance(number, int):
        yield number + 1
        if number > 1:
            yield number - 1
    elif isinstance(number, float):
        yield number * (1 + 1e-6) or 1e-6
    elif isinstance(number, tuple):
        for place, each in enumerate(number):
            for other in _others(each):
                yield (*number[:place], other, *number[place + 1 :])


def _features(graph: Graph, random: Random) -> Iterator[Mutant]:
    values = [v for node in graph.nodes for v in node.outputs]
    for place, own in enumerate(graph.features):
        others = [v for v in values if v.type == own.type and parts(graph, v) != parts(graph, own)]
        for other in random.sample(others, min(2, len(others))):
            features = (*graph.features[:place], other, *graph.features[place + 1 :])
            yield (
                "feature",
                f"feature {place + 1} is {_name(other)}",
                replace(graph, features=features),
            )


def _title(node: Node) -> str:
    return f"{node.op.mnemonic} of {node.origin}"


def _name(value: Value) -> str:
    return value.hint or "?"


def _tensors(operand: ParamSlice) -> str:
    first, *_, last = [tensor_name(piece.tensor) for piece in operand.pieces] * 2
    return f"{first} to {last}, {operand.start}:{operand.stop}," if first != last else first
