"""Step graphs as data and as networkx graphs."""

from __future__ import annotations

import pytest

import cliquegraph
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.steps.graph import Edge, Feature
from tests.networks import clique, network

TWO = network({"layers": 2, "filters": 3}, {"layers": 1, "filters": 3, "stages": 1})
X0, X1, X2 = (Feature(1, layer, min(layer, 1)) for layer in range(3))


def test_a_step_is_a_row_of_table_1() -> None:
    rows = [step.as_row() for step in cliquegraph.unroll(clique(layers=2)).steps]
    keys = ("block", "stage", "layer", "reads", "weights", "writes")
    assert [tuple(row) for row in rows] == [keys] * 4
    assert [tuple(row.values()) for row in rows] == [
        (1, 1, 1, ["X0"], ["W0_1"], "X1@1"),
        (1, 1, 2, ["X0", "X1@1"], ["W0_2", "W1_2"], "X2@1"),
        (1, 2, 1, ["X2@1"], ["W2_1"], "X1@2"),
        (1, 2, 2, ["X1@2"], ["W1_2"], "X2@2"),
    ]


def test_the_unrolled_graph_has_an_arc_for_each_read() -> None:
    steps = cliquegraph.unroll(TWO)
    graph = steps.to_networkx()
    assert graph.name == "small"
    assert steps.blocks[0].to_networkx().name == "block 1"
    assert set(graph.nodes) == {X0, Feature(2, 0, 0), *(step.writes for step in steps.steps)}
    for step in steps.steps:
        assert graph.nodes[step.writes]["step"] is step
    arcs = {(a, b): data["edge"] for a, b, data in graph.edges(data=True)}
    assert arcs == {
        (X0, X1): Edge(1, 0, 1),
        (X0, X2): Edge(1, 0, 2),
        (X1, X2): Edge(1, 1, 2),
        (X2, Feature(1, 1, 2)): Edge(1, 2, 1),
        (Feature(1, 1, 2), Feature(1, 2, 2)): Edge(1, 1, 2),
        (Feature(2, 0, 0), Feature(2, 1, 1)): Edge(2, 0, 1),
    }
    assert steps.depths == (4, 1)


def test_the_loop_has_an_arc_for_each_kernel() -> None:
    loop = cliquegraph.unroll(TWO).loop_graph(1)
    assert loop.name == "block 1"
    assert list(loop.nodes) == [0, 1, 2]
    arcs = {(a, b): (data["edge"], data["stages"]) for a, b, data in loop.edges(data=True)}
    assert arcs == {
        (0, 1): (Edge(1, 0, 1), (1,)),
        (2, 1): (Edge(1, 2, 1), (2,)),
        (0, 2): (Edge(1, 0, 2), (1,)),
        (1, 2): (Edge(1, 1, 2), (1, 2)),
    }
    edges = cliquegraph.unroll(clique(order=[3, 1, 2])).blocks[0].edges
    assert list(edges) == sorted(edges, key=lambda edge: (edge.target, edge.source))


def test_a_block_is_counted_from_1() -> None:
    steps = cliquegraph.unroll(TWO)
    assert [steps.block(index).index for index in (1, 2)] == [1, 2]
    for index in (0, 3, -1):
        with pytest.raises(UsageError, match=f"^small has blocks 1 to 2, not {index}$"):
            steps.block(index)


def test_table_order_is_the_order_of_visits() -> None:
    block = cliquegraph.unroll(clique(order=[3, 1, 2])).blocks[0]
    assert block.visit == {0: 0, 3: 1, 1: 2, 2: 3}
    last = block.steps[2]
    assert [str(f) for f in last.reads] == ["X0", "X1@1", "X3@1"]
    assert [(str(f), str(e)) for f, e in block.table_order(last)] == [
        ("X0", "W0_2"),
        ("X3@1", "W3_2"),
        ("X1@1", "W1_2"),
    ]


def test_a_dense_block_is_visited_in_ascending_order() -> None:
    steps = cliquegraph.unroll(network({"kind": "dense", "layers": 3, "filters": 2}))
    assert steps.blocks[0].order == (1, 2, 3)
    assert list(steps.loop_graph(1).nodes) == [0, 1, 2, 3]


def test_each_claim_says_its_block() -> None:
    proof = cliquegraph.prove_sharing(cliquegraph.unroll(TWO))
    assert {claim.block for claim in proof.claims} == {1, 2}
    assert {claim.holds for claim in proof.claims} == {True}
