"""The -O levels: one function, one set of weights, no more arithmetic."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings

from cliquegraph import Graph, NetworkSpec, interpret, network_cost, sample_tensors
from cliquegraph.compiler import fold
from cliquegraph.ir import ops
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.op import Shape
from cliquegraph.ir.types import MapType, Section
from cliquegraph.passes.pipeline import LEVELS
from tests.function import EXACT, assert_same_function, error_between, images_for
from tests.networks import EVERY_KEY, graph_of, graphs_of, networks, shipped


def levels_of(spec: NetworkSpec) -> list[Graph]:
    graphs = graphs_of(spec)
    return [graphs[f"-O{level}"] for level in LEVELS]


def convolutions(graph: Graph) -> Counter[tuple[Section, Shape]]:
    """How many convolutions of such kernels each section executes.

    Of the attention's, one is executed for a single pixel as well.
    """
    nodes = (node for node in graph if is_convolution(graph, node))
    return Counter((node.origin.section, node.operands[0].shape) for node in nodes)


def dead(graph: Graph) -> Counter[tuple[Section, Shape]]:
    nodes = (node for node in graph.idle if is_convolution(graph, node))
    return Counter((node.origin.section, node.operands[0].shape) for node in nodes)


def is_convolution(graph: Graph, node: Node) -> bool:
    reads_means = bool(node.inputs) and isinstance(
        graph.producers[node.inputs[0]].op, ops.GlobalMean
    )
    return isinstance(node.op, ops.Conv) and not reads_means


@given(networks())
@settings(max_examples=30)
def test_every_level_computes_what_was_lowered(spec: NetworkSpec) -> None:
    lowered = graph_of(spec)
    for graph in levels_of(spec):
        assert_same_function(lowered, graph)


@given(networks())
@settings(max_examples=30)
def test_weights_that_one_level_trained_evaluate_alike_at_every_other(spec: NetworkSpec) -> None:
    graphs = graphs_of(spec)
    images = images_for(graphs["lowered"])
    tensors = sample_tensors(graphs["-O1"])
    tensors |= interpret(graphs["-O1"], tensors, images, training=True).running
    expected = interpret(graphs["lowered"], tensors, images)
    for level in LEVELS:
        assert error_between(interpret(graphs[f"-O{level}"], tensors, images), expected) < EXACT
    found = interpret(graphs["folded"], fold(spec, tensors), images)
    assert error_between(found, expected) < EXACT


@given(networks())
def test_no_level_adds_a_convolution_or_loses_one_that_is_needed(spec: NetworkSpec) -> None:
    literal, *others = levels_of(spec)
    for graph in others:
        assert convolutions(graph) + dead(graph) == convolutions(literal)
        saved = sum(node.macs for node in graph.idle)
        saved += pooled_first(graph) - pooled_first(literal)
        assert network_cost(graph).total.macs + saved == network_cost(literal).total.macs


def pooled_first(graph: Graph) -> int:
    """The MACs that pools right before convolutions save, less those of means."""
    saved = 0
    for node in graph:
        maker = graph.producers[node.inputs[0]] if node.inputs else node
        if isinstance(node.op, ops.Conv) and isinstance(maker.op, ops.AvgPool):
            unpooled, pooled = (maker.inputs[0].type, maker.output.type)
            assert isinstance(unpooled, MapType) and isinstance(pooled, MapType)
            pixels = pooled.height * pooled.width
            saved += node.macs // pixels * (unpooled.height * unpooled.width - pixels)
        elif isinstance(maker.op, ops.GlobalMean):
            saved -= node.macs
    return saved


@given(networks())
def test_every_level_owns_the_same_tensors_and_returns_the_same_values(spec: NetworkSpec) -> None:
    literal, *others = levels_of(spec)
    for graph in others:
        assert graph.tensors == literal.tensors
        assert [value.type for value in graph.outputs] == [v.type for v in literal.outputs]
        assert set(named(graph)) <= set(named(literal))


def named(graph: Graph) -> list[str]:
    """What updates write, under the names that generated code has too."""
    nodes = [node for node in graph if node.origin.layer is not None]
    return [n.output.hint for n in nodes if n.output.hint and not isinstance(n.op, ops.Moments)]


@pytest.mark.parametrize("name", EVERY_KEY)
def test_folded_networks_are_no_worse_off(name: str) -> None:
    graphs = graphs_of(EVERY_KEY[name])
    assert convolutions(graphs["folded"]) == convolutions(graphs["-O1"])


def test_s3_reads_its_maps_for_moments_a_third_as_often() -> None:
    def observed(graph: Graph) -> int:
        nodes = (node for node in graph if isinstance(node.op, ops.BatchNorm | ops.Moments))
        return sum(node.input_types[0].elements for node in nodes)

    assert [*map(observed, levels_of(shipped("cliquenet_s3")))] == [
        21_100_576,
        7_736_512,
        7_736_512,
    ]


@given(networks())
def test_no_moments_are_taken_that_no_step_needs(spec: NetworkSpec) -> None:
    _, graph, _ = levels_of(spec)
    executed = set(graph.nodes)
    for node in graph:
        if isinstance(node.op, ops.Moments):
            assert not executed.isdisjoint(graph.consumers[node.output])
