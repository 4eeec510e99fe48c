"""The schedule: Table 1 of the paper, and what the paper leaves open."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
from hypothesis import given

import cliquegraph
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.steps.graph import BlockSteps, Edge, Feature
from tests.networks import clique, network, schedules, shipped

Row = tuple[str, str, str]


def block(**keys: Any) -> BlockSteps:
    return cliquegraph.unroll(clique(**keys)).block(1)


def table(steps: BlockSteps) -> list[Row]:
    """Bottom layers, weights and top layer of each row, as the paper orders them."""
    return [
        (
            " ".join(str(feature) for feature, _ in steps.table_order(step)),
            " ".join(str(edge) for _, edge in steps.table_order(step)),
            str(step.writes),
        )
        for step in steps.steps
    ]


def reads(steps: BlockSteps) -> dict[str, str]:
    """What each version is computed from, in the order of concatenation."""
    return {str(step.writes): " ".join(map(str, step.reads)) for step in steps.steps}


def names(features: tuple[Feature, ...]) -> str:
    return " ".join(map(str, features))


def test_table_1_of_the_paper() -> None:
    assert table(block(layers=5)) == [
        ("X0", "W0_1", "X1@1"),
        ("X0 X1@1", "W0_2 W1_2", "X2@1"),
        ("X0 X1@1 X2@1", "W0_3 W1_3 W2_3", "X3@1"),
        ("X0 X1@1 X2@1 X3@1", "W0_4 W1_4 W2_4 W3_4", "X4@1"),
        ("X0 X1@1 X2@1 X3@1 X4@1", "W0_5 W1_5 W2_5 W3_5 W4_5", "X5@1"),
        ("X2@1 X3@1 X4@1 X5@1", "W2_1 W3_1 W4_1 W5_1", "X1@2"),
        ("X3@1 X4@1 X5@1 X1@2", "W3_2 W4_2 W5_2 W1_2", "X2@2"),
        ("X4@1 X5@1 X1@2 X2@2", "W4_3 W5_3 W1_3 W2_3", "X3@2"),
        ("X5@1 X1@2 X2@2 X3@2", "W5_4 W1_4 W2_4 W3_4", "X4@2"),
        ("X1@2 X2@2 X3@2 X4@2", "W1_5 W2_5 W3_5 W4_5", "X5@2"),
    ]


def test_concatenation_is_ascending_by_layer_in_every_stage() -> None:
    assert reads(block(layers=5))["X3@2"] == "X1@2 X2@2 X4@1 X5@1"
    for step in block(layers=5, stages=3, order=(4, 2, 5, 1, 3)).steps:
        layers = [feature.layer for feature in step.reads]
        assert layers == sorted(layers)


def test_descending_order_visits_the_last_layer_first() -> None:
    assert table(block(order="descending")) == [
        ("X0", "W0_3", "X3@1"),
        ("X0 X3@1", "W0_2 W3_2", "X2@1"),
        ("X0 X3@1 X2@1", "W0_1 W3_1 W2_1", "X1@1"),
        ("X2@1 X1@1", "W2_3 W1_3", "X3@2"),
        ("X1@1 X3@2", "W1_2 W3_2", "X2@2"),
        ("X3@2 X2@2", "W3_1 W2_1", "X1@2"),
    ]


def test_a_permuted_order_is_that_of_every_stage() -> None:
    steps = block(order=(2, 3, 1))
    assert [step.layer for step in steps.steps] == [2, 3, 1, 2, 3, 1]
    assert table(steps)[3:] == [
        ("X3@1 X1@1", "W3_2 W1_2", "X2@2"),
        ("X1@1 X2@2", "W1_3 W2_3", "X3@2"),
        ("X2@2 X3@2", "W2_1 W3_1", "X1@2"),
    ]


def test_stage_3_reads_stage_2_where_nothing_newer_is_there() -> None:
    assert table(block(stages=3))[6:] == [
        ("X2@2 X3@2", "W2_1 W3_1", "X1@3"),
        ("X3@2 X1@3", "W3_2 W1_2", "X2@3"),
        ("X1@3 X2@3", "W1_3 W2_3", "X3@3"),
    ]


def test_simultaneous_updates_read_the_previous_stage_alone() -> None:
    steps = block(update="simultaneous", stages=3)
    assert reads(steps) == {
        "X1@1": "X0",
        "X2@1": "X0 X1@1",
        "X3@1": "X0 X1@1 X2@1",
        "X1@2": "X2@1 X3@1",
        "X2@2": "X1@1 X3@1",
        "X3@2": "X1@1 X2@1",
        "X1@3": "X2@2 X3@2",
        "X2@3": "X1@2 X3@2",
        "X3@3": "X1@2 X2@2",
    }


def test_a_partial_last_stage_updates_the_first_layers_of_the_order() -> None:
    steps = block(layers=4, last_stage_updates=2, order=(3, 1, 4, 2))
    assert [str(step.writes) for step in steps.steps][4:] == ["X3@2", "X1@2"]
    assert reads(steps)["X1@2"] == "X2@1 X3@2 X4@1"
    # The others keep their previous version.
    assert names(steps.feature) == "X0 X1@2 X2@1 X3@2 X4@1"
    assert names(steps.transit) == "X1@2 X2@1 X3@2 X4@1"


def test_a_partial_last_stage_owns_no_kernel_that_only_the_rest_would_use() -> None:
    # 6 forward kernels, and the feedback into X1 and X2: 3→1, 2→1, 3→2 of 3 layers.
    assert len(block(last_stage_updates=3).edges) == 9
    assert len(block(last_stage_updates=1).edges) == 8
    assert len(block(last_stage_updates=0).edges) == 6


def test_a_last_stage_without_updates_is_i_i() -> None:
    none, single = block(last_stage_updates=0), block(stages=1)
    assert none.steps == single.steps
    assert (none.feature, none.transit) == (single.feature, single.transit)


@pytest.mark.parametrize(
    ("keys", "feature", "transit"),
    [
        ({"stages": 1}, "X0 X1@1 X2@1 X3@1", "X1@1 X2@1 X3@1"),
        ({"feature": 1}, "X0 X1@1 X2@1 X3@1", "X1@2 X2@2 X3@2"),
        ({}, "X0 X1@2 X2@2 X3@2", "X1@2 X2@2 X3@2"),
        ({"stages": 3, "feature": 2, "transit": 1}, "X0 X1@2 X2@2 X3@2", "X1@1 X2@1 X3@1"),
    ],
    ids=["I+I", "I+II", "II+II", "any"],
)
def test_block_feature_and_transit_are_of_the_stages_declared(
    keys: dict[str, Any], feature: str, transit: str
) -> None:
    steps = block(**keys)
    assert names(steps.feature) == feature
    assert names(steps.transit) == transit


def test_the_stage_i_feature_is_not_what_stage_ii_wrote() -> None:
    # A single dictionary for both stages causes this (the authors' issues #2 and #3).
    steps = block(layers=5, feature=1)
    assert {feature.stage for feature in steps.feature} == {0, 1}


def test_a_full_clique_has_a_kernel_for_every_ordered_pair_and_one_from_x0_to_each() -> None:
    n = 6
    steps = block(layers=n)
    pairs = {(edge.source, edge.target) for edge in steps.edges}
    assert pairs == {(i, j) for i in range(n + 1) for j in range(1, n + 1) if i != j}
    assert len(pairs) == n * (n - 1) + n


def test_one_stage_has_forward_kernels_only() -> None:
    n = 6
    steps = block(layers=n, stages=1)
    assert {(edge.source, edge.target) for edge in steps.edges} == {
        (i, j) for j in range(1, n + 1) for i in range(j)
    }
    assert len(steps.edges) == n * (n + 1) // 2


def test_each_kernel_is_used_in_the_stages_that_read_its_source() -> None:
    stages = {str(edge): used for edge, used in block(stages=3).edges.items()}
    assert stages == {
        "W0_1": (1,),
        "W2_1": (2, 3),
        "W3_1": (2, 3),
        "W0_2": (1,),
        "W1_2": (1, 2, 3),
        "W3_2": (2, 3),
        "W0_3": (1,),
        "W1_3": (1, 2, 3),
        "W2_3": (1, 2, 3),
    }


def test_a_dense_block_reads_all_before_it_once() -> None:
    steps = cliquegraph.unroll(network({"kind": "dense", "layers": 3, "filters": 2})).block(1)
    assert table(steps) == [
        ("X0", "W0_1", "X1@1"),
        ("X0 X1@1", "W0_2 W1_2", "X2@1"),
        ("X0 X1@1 X2@1", "W0_3 W1_3 W2_3", "X3@1"),
    ]
    assert names(steps.feature) == names(steps.transit) == "X0 X1@1 X2@1 X3@1"


def test_blocks_do_not_read_each_other_but_through_x0() -> None:
    graph = cliquegraph.unroll(network({"layers": 3, "filters": 2}, {"layers": 2, "filters": 2}))
    for step in graph.steps:
        assert {feature.block for feature in step.reads} == {step.block}
        assert {edge.block for edge in step.weights} == {step.block}
    assert [each.index for each in graph.blocks] == [1, 2]


def test_a_block_that_is_not_there_is_the_users_error() -> None:
    with pytest.raises(UsageError, match="small has blocks 1 to 1, not 2"):
        cliquegraph.unroll(clique()).block(2)
    with pytest.raises(UsageError, match="not 0"):
        cliquegraph.unroll(clique()).loop_graph(0)


@given(schedules())
def test_unrolled_a_network_has_no_cycle(keys: dict[str, Any]) -> None:
    graph = cliquegraph.unroll(network({**keys, "filters": 1}))
    unrolled = graph.to_networkx()
    assert nx.is_directed_acyclic_graph(unrolled)
    assert unrolled.number_of_nodes() == 1 + sum(1 for _ in graph.steps)
    for source, target, edge in unrolled.edges(data="edge"):
        assert edge == Edge(1, source.layer, target.layer)


def test_each_written_node_of_the_unrolled_graph_holds_its_step() -> None:
    graph = cliquegraph.unroll(clique())
    steps = nx.get_node_attributes(graph.to_networkx(), "step")
    assert list(steps.values()) == list(graph.steps)
    assert all(step.writes == feature for feature, step in steps.items())


def test_depth_is_the_longest_way_through_the_unrolled_block() -> None:
    # Alternate updates wait for each other; simultaneous ones of a stage do not.
    assert cliquegraph.unroll(clique(layers=5)).depths == (10,)
    assert cliquegraph.unroll(clique(layers=5, update="simultaneous")).depths == (6,)
    assert cliquegraph.unroll(clique(layers=5, stages=1)).depths == (5,)


def test_the_loop_graph_is_the_clique() -> None:
    loop = cliquegraph.unroll(clique(layers=4)).loop_graph(1)
    layers = loop.subgraph(range(1, 5))
    assert nx.number_of_edges(layers) == 4 * 3
    assert nx.is_strongly_connected(layers)
    assert loop.in_degree(0) == 0
    assert loop.out_degree(0) == 4
    assert loop.edges[0, 2]["stages"] == (1,)
    assert loop.edges[1, 2]["stages"] == (1, 2)
    assert loop.edges[2, 1]["stages"] == (2,)
    assert loop.edges[2, 1]["edge"] == Edge(1, 2, 1)


def test_the_loop_graph_of_one_stage_has_no_feedback() -> None:
    assert nx.is_directed_acyclic_graph(cliquegraph.unroll(clique(stages=1)).loop_graph(1))


def test_the_papers_150_30_has_blocks_of_4_5_and_6_layers() -> None:
    graph = cliquegraph.unroll(shipped("cliquenet_k150_t30_abc"))
    assert [len(each.order) for each in graph.blocks] == [4, 5, 6]
