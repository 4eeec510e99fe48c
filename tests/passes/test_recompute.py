"""Recompute: marks alone, on work that is cheap and starts from what is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

import cliquegraph
from cliquegraph import Graph, NetworkSpec, optimise
from cliquegraph.ir import ops
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.types import MapType
from cliquegraph.passes.pipeline import run_passes
from cliquegraph.passes.recompute import Recompute
from tests.excerpts import before_and_after, golden
from tests.function import with_reader
from tests.levels import Model, assert_same
from tests.networks import EVERY_KEY, clique, graph_of, network, networks, shipped

MEANS = {ops.AvgPool, ops.GlobalAvgPool, ops.GlobalMean}
CHEAP = (ops.Concat, ops.BatchNorm, ops.Normalize, ops.Relu)


def marked(graph: Graph) -> list[Node]:
    return [node for node in graph if node.recompute]


def level_2(spec: NetworkSpec) -> Graph:
    return run_passes(optimise(graph_of(spec), 1), [Recompute()])


def test_what_it_does_to_a_bottleneck() -> None:
    graph = optimise(graph_of(shipped("cliquenet_s0_star")), 1)
    places = ("stem", "block1, stage 2 layer 1", "transition1", "readout1")
    assert before_and_after(graph, Recompute(), *places) == golden("recompute")


@given(networks())
@settings(max_examples=40)
def test_it_changes_nothing_but_marks(spec: NetworkSpec) -> None:
    before = optimise(graph_of(spec), 1)
    after = Recompute().apply(before)
    nodes, idle = (
        tuple(replace(node, recompute=False) for node in each) for each in (after.nodes, after.idle)
    )
    assert replace(after, nodes=nodes, idle=idle) == before
    assert after == optimise(graph_of(spec), 2)


def test_idle_steps_are_marked_like_live_ones_and_share_their_class() -> None:
    spec = shipped("cliquenet_k36_t15_i_ii")
    graph = level_2(spec)

    def marks(nodes: Iterable[Node]) -> set[tuple[str, bool]]:
        steps = (node for node in nodes if node.origin.layer is not None)
        return {(node.op.mnemonic, node.recompute) for node in steps}

    assert graph.idle
    assert marks(graph.idle) == marks(graph.nodes)

    def classes(level: int) -> list[str]:
        return re.findall(r"class (Update\d*)", cliquegraph.compile(spec, "torch", level=level))

    # X5@2 of the last block is normalized nowhere: its update, alone, takes no moments.
    assert classes(2) == classes(1) == ["Update", "Update2"]


@given(networks())
def test_what_is_redone_is_cheap_and_has_one_reader(spec: NetworkSpec) -> None:
    graph = level_2(spec)
    for node in marked(graph):
        assert isinstance(node.op, CHEAP)
        assert node.macs == 0
        assert node.output not in graph.outputs
        reader, *others = graph.consumers[node.output]
        if others:
            assert {type(each.op) for each in (reader, *others)} <= MEANS
        else:
            assert reader.recompute or type(reader.op) in {ops.Conv, *MEANS}
        if isinstance(node.op, ops.Relu):
            # Recomputing the ReLU alone would save its input.
            assert graph.producers[node.inputs[0]].recompute


@given(networks())
def test_a_reader_that_concatenates_for_itself_keeps_none_of_it(spec: NetworkSpec) -> None:
    graph = level_2(spec)
    for node in graph:
        if isinstance(node.op, ops.Normalize):
            assert node.recompute
        if isinstance(node.op, ops.Concat) and isinstance(node.output.type, MapType):
            readers = [reader.origin for reader in graph.consumers.get(node.output, ())]
            assert node.recompute == (readers == [node.origin])


def test_a_pool_and_a_feature_keep_what_they_read() -> None:
    stem = {"filters": 4, "norm": True, "pool": {"kind": "max", "kernel": 3, "stride": 2}}
    post = {"layers": 3, "filters": 3, "unit": "post_activation"}
    graph = level_2(network(post, stem=stem))
    unmarked = [n for n in graph if isinstance(n.op, ops.Relu) and not n.recompute]
    # The stem's maximum needs its argument; a feature that others read is kept as it is.
    assert [str(n.origin.section) for n in unmarked] == ["stem", *["block1"] * 6]
    assert all(not graph.producers[n.inputs[0]].recompute for n in unmarked)
    concats = [n for n in graph if isinstance(n.op, ops.Concat) and n.origin.layer]
    assert all(node.recompute for node in concats)


@pytest.mark.parametrize("attention", [True, False])
def test_maps_that_are_only_averaged_are_recomputed(attention: bool) -> None:
    block = {"layers": 2, "filters": 3}
    spec = network(block, block, transition={"attention": attention})
    graph = level_2(spec)
    (pool,) = (node for node in graph if isinstance(node.op, ops.AvgPool))
    (maps,) = pool.inputs
    assert len(graph.consumers[maps]) == (2 if attention else 1)
    assert graph.producers[maps].recompute and not pool.recompute
    source = cliquegraph.compile(spec, "torch", level=2)
    if attention:  # which reads them too; PyTorch's own pool would save them
        assert "x = avg_pool(x, 2, 2)" in source
        assert "x = F.avg_pool2d(x, 2, stride=2)" in cliquegraph.compile(spec, "torch", level=1)
    else:  # pooled as they are read
        assert "norm_relu(sources, self.norm, pool=(2, 2), recompute=True)" in source


@pytest.mark.parametrize("kind", [ops.Relu, ops.MaxPool])
def test_maps_that_are_not_only_averaged_are_kept(kind: type[ops.Op]) -> None:
    block = {"layers": 2, "filters": 3}
    graph = optimise(graph_of(network(block, block)), 1)
    (pool,) = (node for node in graph if isinstance(node.op, ops.AvgPool))
    (maps,) = pool.inputs
    reader = ops.Relu() if kind is ops.Relu else ops.MaxPool(1, 1)
    other = Node(reader, (maps,), (), (Value(maps.type),), pool.origin)
    after = Recompute().apply(replace(graph, nodes=(*graph.nodes, other)))
    assert not after.producers[maps].recompute
    assert Recompute().apply(graph).producers[maps].recompute


@pytest.mark.parametrize("kind", [ops.Concat, ops.Normalize, ops.Relu])
def test_what_something_else_reads_is_kept(kind: type[ops.Op]) -> None:
    graph = optimise(graph_of(clique()), 1)
    node = next(n for n in graph if isinstance(n.op, kind) and n.origin.layer == 2)
    after = Recompute().apply(with_reader(graph, node.output))
    found = after.producers[node.output]
    assert not found.recompute
    assert level_2(clique()).nodes[after.nodes.index(found)].recompute


def test_every_network_of_the_tests_has_something_to_redo() -> None:
    # What has no normalization before a convolution and no concatenation is left as it is.
    literal = {"from_zeros", "recurrent", "three_sizes", "gated", "fractal", "join_drop"}
    without = {name for name, spec in EVERY_KEY.items() if not marked(level_2(spec))}
    assert without <= literal


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("attention", [True, False])
def test_gradients_pass_a_pool_of_recomputed_maps(
    attention: bool, memory_format: torch.memory_format
) -> None:
    block = {"layers": 2, "filters": 3}
    odd = {"channels": 3, "height": 7, "width": 9}
    spec = network(block, block, input=odd, transition={"attention": attention})
    literal, recomputed = (Model(spec, level) for level in (0, 2))
    images = literal.images().to(memory_format=memory_format)
    assert_same(recomputed.outcome(images), literal.outcome(images))
