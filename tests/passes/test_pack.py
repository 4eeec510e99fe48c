"""Packing: one bank for each layer, of which every step reads one slice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

import cliquegraph
from cliquegraph import Graph, NetworkSpec, interpret, sample_tensors
from cliquegraph.ir import ops
from cliquegraph.ir.names import EDGE_KERNEL, tensor_name
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.types import Bank
from cliquegraph.ir.verify import verify_graph
from cliquegraph.passes.pack import Pack
from tests.networks import EVERY_KEY, clique, cliques, graph_of, network, networks, shipped


def packed(spec: NetworkSpec) -> Graph:
    graph = Pack().apply(graph_of(spec))
    verify_graph(graph)
    return graph


def edge_convolutions(graph: Graph) -> list[Node]:
    return [
        node
        for node in graph
        if isinstance(node.op, ops.Conv) and node.operands[0].param.slot.role == EDGE_KERNEL
    ]


def pieces(bank: Bank) -> list[str]:
    return [tensor_name(piece.tensor) for piece in bank.pieces]


def banks(graph: Graph) -> list[Bank]:
    return [param for param in graph.params if isinstance(param, Bank)]


def slices(graph: Graph) -> list[tuple[str, list[str]]]:
    """What each edge convolution reads, by what it writes."""
    return [
        (node.output.hint, [tensor_name(piece.tensor) for piece in node.operands[0].pieces])
        for node in edge_convolutions(graph)
    ]


@given(cliques())
def test_every_layer_has_one_bank_and_every_step_reads_one_slice(block: dict[str, object]) -> None:
    graph = packed(network(block))
    spec = cliquegraph.unroll(network(block)).block(1)
    assert len(banks(graph)) == len(spec.order)
    first = {}
    for node in edge_convolutions(graph):
        (operand,) = node.operands
        assert isinstance(operand.param, Bank)
        layer, stage = node.origin.layer, node.origin.stage
        first.setdefault(layer, operand.param)
        assert operand.param is first[layer]
        if stage == 1:
            assert operand.start == 0
        else:
            # After X0's kernel, to the end: later stages read every other layer.
            assert operand.start == operand.param.pieces[0].stop
            assert operand.stop == operand.param.extent


def test_banks_are_in_visiting_order_with_x0_first() -> None:
    graph = packed(clique(order=(3, 1, 2)))
    assert {str(bank.slot.layer): pieces(bank) for bank in banks(graph)} == {
        "3": ["block1.w0_3.weight", "block1.w1_3.weight", "block1.w2_3.weight"],
        "1": ["block1.w0_1.weight", "block1.w3_1.weight", "block1.w2_1.weight"],
        "2": ["block1.w0_2.weight", "block1.w3_2.weight", "block1.w1_2.weight"],
    }


def test_stage_1_reads_a_prefix_and_later_stages_the_suffix_without_x0() -> None:
    graph = packed(clique(layers=3, stages=3))
    layer_2 = [names for hint, names in slices(graph) if hint.startswith("x2")]
    assert layer_2 == [
        ["block1.w0_2.weight", "block1.w1_2.weight"],
        ["block1.w1_2.weight", "block1.w3_2.weight"],
        ["block1.w1_2.weight", "block1.w3_2.weight"],
    ]


def test_a_kernel_meets_the_channels_of_its_own_source() -> None:
    for spec in (clique(order=(3, 1, 2), stages=3), clique(layers=4, order="descending")):
        graph = packed(spec)
        steps = {(s.stage, s.layer): s for s in cliquegraph.unroll(spec).block(1).steps}
        for node in edge_convolutions(graph):
            step = steps[node.origin.stage or 0, node.origin.layer or 0]
            concat = node
            while not isinstance(concat.op, ops.Concat):
                concat = graph.producers[concat.inputs[0]]
            read = [graph.producers[value] for value in concat.inputs]
            layers = [each.origin.layer or 0 for each in read]
            kernels = [piece.tensor.slot.source for piece in node.operands[0].pieces]
            assert kernels == layers
            # The same versions as before, each once.
            assert sorted(layers) == [feature.layer for feature in step.reads]


def test_the_normalization_of_a_concatenation_moves_with_its_sources() -> None:
    graph = packed(clique(order="descending"))
    norm = next(
        node
        for node in graph
        if isinstance(node.op, ops.BatchNorm) and (node.origin.stage, node.origin.layer) == (1, 1)
    )
    for operand in norm.operands:
        # X0 of 4 channels, then X3 and X2 of 3: their parts of [X0, X2, X3].
        found = [(piece.start, piece.stop) for piece in operand.param.pieces]
        assert found == [(0, 4), (7, 10), (4, 7)]


def test_ascending_order_moves_nothing_but_kernels() -> None:
    graph = graph_of(clique(stages=3, layers=4))
    for before, after in zip(graph, Pack().apply(graph), strict=True):
        if before in edge_convolutions(graph):
            assert after.inputs == before.inputs
        else:
            assert after is before


def test_it_gives_a_graph_of_the_same_tensors() -> None:
    for spec in EVERY_KEY.values():
        graph = graph_of(spec)
        assert set(Pack().apply(graph).tensors) == set(graph.tensors)


def test_it_changes_the_paper_networks() -> None:
    graph = graph_of(shipped("cliquenet_s3"))
    after = Pack().apply(graph)
    edges = sum(param.slot.role == EDGE_KERNEL for param in graph.params)
    assert edges == 4 * 36
    assert len(graph.params) - len(after.params) == edges - 4 * 6


def test_a_network_without_shared_kernels_stays_what_it_is() -> None:
    graph = graph_of(network({"kind": "dense", "layers": 3, "filters": 2}))
    assert Pack().apply(graph) == graph


@given(networks())
@settings(max_examples=60)
def test_the_function_stays_the_same(spec: NetworkSpec) -> None:
    before, after = graph_of(spec), packed(spec)
    tensors = sample_tensors(before)
    image = before.input.type
    images = np.random.default_rng(1).normal(size=(3, image.channels, image.height, image.width))
    for training in (False, True):
        expected = interpret(before, tensors, images, training=training)
        found = interpret(after, tensors, images, training=training)
        assert found.logits == pytest.approx(expected.logits, rel=1e-9, abs=1e-11)
        for one, other in zip(found.features, expected.features, strict=True):
            assert one == pytest.approx(other, rel=1e-9, abs=1e-11)
        assert found.running.keys() == expected.running.keys()
        for name, array in expected.running.items():
            assert found.running[name] == pytest.approx(array, rel=1e-9, abs=1e-11)


def test_sources_of_a_bank_lie_side_by_side() -> None:
    for bank in banks(packed(EVERY_KEY["schedule"])):
        starts = np.cumsum([0, *(piece.stop - piece.start for piece in bank.pieces)])
        assert all(start < stop for start, stop in pairwise(starts))
        assert starts[-1] == bank.extent == bank.shape[1]
