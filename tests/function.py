"""What the graphs of one network have in common: the function that they compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cliquegraph import Graph, interpret, sample_tensors
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Relu
from cliquegraph.ir.storage import Array, from_storage
from cliquegraph.passes.rewrite import rewrite
from cliquegraph.proof.verification import relative_error
from cliquegraph.semantics.interpret import Result

EXACT = 1e-12
"""What float64 may leave of a sum in another order."""


def images_for(graph: Graph, batch: int = 3) -> Array:
    """A batch for a network."""
    image = graph.input.type
    rng = np.random.default_rng(1)
    return rng.normal(size=(batch, image.channels, image.height, image.width))  # type: ignore[union-attr]


def assert_same_function(before: Graph, after: Graph) -> None:
    """Both return the same and move running statistics alike, in evaluation and in training."""
    for expected, found in results_of(before, after):
        assert error_between(found, expected) < EXACT
        assert relative_error(found.running, expected.running) < EXACT


def error_between(found: Result, expected: Result) -> float:
    """The largest relative error of what two runs return."""
    one, other = ((each.logits, *each.features) for each in (found, expected))
    pairs = zip(one, other, strict=True)
    return max(relative_error({"": a}, {"": b}) for a, b in pairs)


def results_of(before: Graph, after: Graph) -> Iterator[tuple[Result, Result]]:
    """What both give in evaluation and in training.

    Of the first one's running statistics those have moved that the second one's may: nothing
    does in steps that are not taken.
    """
    tensors = sample_tensors(after)
    images = images_for(before)
    taken = statistics_in_use(after)
    for training in (False, True):
        expected, found = (
            interpret(graph, tensors, images, training=training) for graph in (before, after)
        )
        for name, array in expected.running.items():
            array[:] = np.where(taken[name], array, tensors[name])
        yield expected, found


def with_reader(graph: Graph, value: Value) -> Graph:
    """The graph with one more reader of a value."""
    origin = graph.producers[value].origin
    reader = Node(Relu(), (value,), (), (Value(value.type),), origin)
    return replace(graph, nodes=(*graph.nodes, reader))


def without_relu(graph: Graph, value: Value) -> Graph:
    """The graph without the ReLU that reads a value: what read its output reads the value."""
    (relu,) = graph.consumers[value]

    def nodes_for(node: Node) -> Iterator[Node]:
        if node is not relu:
            yield node

    return rewrite(graph, nodes_for, {relu.output: value})


def statistics_in_use(graph: Graph) -> dict[str, Array]:
    """For each number of the running statistics, whether a step that is taken moves it."""
    read = {operand.param for node in graph.nodes for operand in node.operands}
    statistics = [param for param in graph.params if not param.field.trainable]
    return from_storage({param: np.full(param.shape, param in read) for param in statistics})
