"""Pool first: a 1×1 convolution and attention get what is left of the maps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from cliquegraph import Graph, NetworkSpec
from cliquegraph.ir import ops
from cliquegraph.ir.nodes import Node
from cliquegraph.passes.pipeline import run_passes
from cliquegraph.passes.pool import PoolFirst
from tests.excerpts import before_and_after, golden
from tests.function import assert_same_function, with_reader
from tests.networks import EVERY_KEY, clique, graph_of, network, networks, shipped

BLOCK = {"layers": 2, "filters": 3}
ODD = {"channels": 3, "height": 7, "width": 9}
CONV, POOL = {"conv": 1, "filters": 4}, {"avg_pool": 2}


def attention(**transition: object) -> NetworkSpec:
    return network(BLOCK, BLOCK, transition={"attention": True, **transition})


def between(*declared: object, **keys: object) -> NetworkSpec:
    """A network with these ops between its blocks."""
    return network(BLOCK, BLOCK, transition={"ops": list(declared)}, **keys)


def pooled_first(graph: Graph) -> Graph:
    return run_passes(graph, [PoolFirst()])


def transition(graph: Graph) -> list[Node]:
    return [node for node in graph if str(node.origin.section) == "transition1"]


def order(graph: Graph) -> list[str]:
    """The ops of the transition."""
    return [node.op.mnemonic for node in transition(graph)]


@pytest.mark.parametrize(
    ("name", "excerpt"),
    [
        ("cliquenet_k36_t12_a", "pool_first"),
        ("cliquenet_s0", "pool_first_attention"),
        ("cliquenet_s0_star", "pool_first_convolution"),
    ],
)
def test_what_it_does_to_a_transition(name: str, excerpt: str) -> None:
    graph = graph_of(shipped(name))
    assert before_and_after(graph, PoolFirst(), "transition1") == golden(excerpt)


@given(networks())
@settings(max_examples=30)
def test_the_function_stays_the_same(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    assert_same_function(graph, pooled_first(graph))


MOVED = {
    "compression": network(BLOCK, BLOCK),
    "odd": network(BLOCK, BLOCK, input=ODD),
    "attention": attention(),
    "attention, odd": network(BLOCK, BLOCK, input=ODD, transition={"attention": True}),
    "attention, dropout": attention(dropout=0.25),
    "abc": EVERY_KEY["abc"],
    "overlapping windows": between(CONV, {"avg_pool": 3, "stride": 1}, input=ODD),
    "gaps between windows": between(CONV, {"avg_pool": 2, "stride": 3}, input=ODD),
    "bias": between({**CONV, "bias": True}, POOL),
    "depthwise": between({"conv": 1, "depthwise": True}, POOL),
    "two": between(CONV, {**CONV, "filters": 5}, POOL),
}


@pytest.mark.parametrize("spec", MOVED.values(), ids=MOVED)
def test_where_it_moves_the_function_stays_the_same(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    after = pooled_first(graph)
    assert after != graph
    assert_same_function(graph, after)
    assert pooled_first(after) == after


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("compression", ["batch_norm", "relu", "avg_pool", "conv"]),
        ("two", ["avg_pool", "conv", "conv"]),
        ("bias", ["avg_pool", "conv"]),
    ],
)
def test_the_pool_comes_first(name: str, moved: list[str]) -> None:
    assert order(pooled_first(graph_of(MOVED[name]))) == moved


def test_attention_reads_the_mean_of_all_pixels_whatever_the_windows_leave_out() -> None:
    for name in ("attention", "attention, odd"):
        after = pooled_first(graph_of(MOVED[name]))
        assert order(after)[2:6] == ["global_mean", "conv", "global_avg_pool", "linear"]
        assert order(after)[-3:] == ["avg_pool", "conv", "scale_channels"]
        mean, pool = (n for n in transition(after) if n.inputs == (transition(after)[1].output,))
        assert isinstance(mean.op, ops.GlobalMean) and isinstance(pool.op, ops.AvgPool)
        one, other = (n for n in transition(after) if isinstance(n.op, ops.Conv))
        assert one.operands == other.operands


def test_behind_dropout_attention_alone_comes_behind_the_pool() -> None:
    graph = graph_of(attention(dropout=0.25))
    assert order(graph)[-2:] == ["scale_channels", "avg_pool"]
    assert order(pooled_first(graph))[-2:] == ["avg_pool", "scale_channels"]
    assert order(graph)[:-2] == order(pooled_first(graph))[:-2]


def test_a_quarter_of_the_arithmetic_is_left() -> None:
    def macs(graph: Graph) -> int:
        return sum(node.macs for node in transition(graph))

    graph = graph_of(network(BLOCK, BLOCK))
    assert 4 * macs(pooled_first(graph)) == macs(graph) > 0


def test_tensors_keep_their_names_and_order() -> None:
    for spec in MOVED.values():
        graph = graph_of(spec)
        assert pooled_first(graph).params == graph.params
        assert pooled_first(graph).tensors == graph.tensors


@pytest.mark.parametrize("spec", [attention(), network(BLOCK, BLOCK)], ids=["attention", "none"])
def test_what_reads_the_pool_reads_the_result_under_the_old_name(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    (pool,) = (node for node in graph if isinstance(node.op, ops.AvgPool))
    after = pooled_first(graph)
    assert isinstance(after.producers[pool.output].op, ops.ScaleChannels | ops.Conv)
    assert [n.op for n in after.consumers[pool.output]] == [
        n.op for n in graph.consumers[pool.output]
    ]


@pytest.mark.parametrize("kind", [ops.ScaleChannels, ops.Conv])
def test_maps_that_something_else_needs_stay_what_they_are(kind: type[ops.Op]) -> None:
    spec = attention() if kind is ops.ScaleChannels else network(BLOCK, BLOCK)
    graph = graph_of(spec)
    (needed,) = (node.output for node in transition(graph) if isinstance(node.op, kind))
    for other in (with_reader(graph, needed), replace(graph, features=(needed,))):
        assert pooled_first(other) == other
        assert_same_function(other, pooled_first(other))


def test_scaled_maps_whose_mean_is_read_stay_what_they_are() -> None:
    graph = graph_of(attention(dropout=0.25))
    (scale,) = (node for node in graph if isinstance(node.op, ops.ScaleChannels))
    (gate,) = (
        node
        for node in graph
        if isinstance(node.op, ops.GlobalAvgPool) and node.origin == scale.origin
    )
    mean = replace(gate, inputs=(scale.output,), outputs=(replace(gate.output),))
    both = replace(graph, nodes=(*graph.nodes, mean))
    assert pooled_first(both) == both


def test_a_convolution_of_another_place_stays_there() -> None:
    # A member belongs to the class of its place.
    graph = graph_of(network(BLOCK, BLOCK))
    elsewhere = graph.nodes[1].origin
    nodes = tuple(
        replace(node, origin=elsewhere) if node in transition(graph)[:3] else node
        for node in graph.nodes
    )
    moved = replace(graph, nodes=nodes)
    assert pooled_first(moved) == moved


STILL = {
    # The largest product need not be that of the largest number.
    "max pool": attention(pool="max"),
    "max pool, no attention": network(BLOCK, BLOCK, transition={"pool": "max"}),
    "dropout": network(BLOCK, BLOCK, transition={"dropout": 0.25}),
    # A window of a 3×3 convolution crosses those of the pool.
    "3×3": between({"conv": 3, "filters": 4}, POOL),
    "stride": between({**CONV, "stride": 2}, POOL, input={"channels": 3, "height": 8, "width": 8}),
    "norm": between(CONV, "norm", POOL),
    "relu": between(CONV, "relu", POOL),
    "two pools": between(CONV, {"max_pool": 1}, POOL),
    "3×3 stem": network(
        BLOCK,
        BLOCK,
        stem={"filters": 4, "pool": {"kind": "avg", "kernel": 2, "stride": 2}},
        transition={"dropout": 0.25},
    ),
    "no transition": clique(),
}


@pytest.mark.parametrize("spec", STILL.values(), ids=STILL)
def test_where_it_does_nothing(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    assert pooled_first(graph) == graph
