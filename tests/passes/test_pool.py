"""Pool first: the attention scales what is left of the maps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cliquegraph import Graph, NetworkSpec
from cliquegraph.ir import ops
from cliquegraph.passes.pipeline import run_passes
from cliquegraph.passes.pool import PoolFirst
from tests.excerpts import before_and_after, golden
from tests.function import assert_same_function, with_reader
from tests.networks import EVERY_KEY, clique, graph_of, network, shipped

BLOCK = {"layers": 2, "filters": 3}


def attention(**transition: object) -> NetworkSpec:
    return network(BLOCK, BLOCK, transition={"attention": True, **transition})


def pooled_first(graph: Graph) -> Graph:
    return run_passes(graph, [PoolFirst()])


def order(graph: Graph) -> list[str]:
    """The ops of the transition, from its convolution on."""
    names = [n.op.mnemonic for n in graph if str(n.origin.section) == "transition1"]
    return names[names.index("conv") + 1 :]


def test_what_it_does_to_a_transition() -> None:
    graph = graph_of(shipped("cliquenet_k36_t12_a"))
    assert before_and_after(graph, PoolFirst(), "transition1") == golden("pool_first")


def test_the_scale_comes_behind_the_pool() -> None:
    graph = graph_of(attention(dropout=0.25))
    assert order(graph)[-2:] == ["scale_channels", "avg_pool"]
    assert order(pooled_first(graph))[-2:] == ["avg_pool", "scale_channels"]
    assert order(graph)[:-2] == order(pooled_first(graph))[:-2]


@pytest.mark.parametrize("spec", [attention(), attention(dropout=0.25), EVERY_KEY["abc"]])
def test_the_function_stays_the_same(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    assert pooled_first(graph) != graph
    assert_same_function(graph, pooled_first(graph))


def test_what_reads_the_pool_reads_the_scaled_maps_under_the_old_name() -> None:
    graph = graph_of(attention())
    (pool,) = (node for node in graph if isinstance(node.op, ops.AvgPool))
    after = pooled_first(graph)
    assert isinstance(after.producers[pool.output].op, ops.ScaleChannels)
    assert [n.op for n in after.consumers[pool.output]] == [
        n.op for n in graph.consumers[pool.output]
    ]


def test_maps_that_something_else_needs_are_scaled_as_they_are() -> None:
    graph = graph_of(attention())
    (scale,) = (node for node in graph if isinstance(node.op, ops.ScaleChannels))
    returned = replace(graph, features=(scale.output,))
    for needed in (with_reader(graph, scale.output), returned):
        assert pooled_first(needed) == needed


@pytest.mark.parametrize(
    "spec",
    [
        attention(pool="max"),  # the largest product need not be that of the largest number
        network(
            BLOCK, BLOCK, stem={"filters": 4, "pool": {"kind": "avg", "kernel": 2, "stride": 2}}
        ),
        clique(),
    ],
    ids=["max pool", "no attention", "no transition"],
)
def test_where_it_does_nothing(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    assert pooled_first(graph) == graph
