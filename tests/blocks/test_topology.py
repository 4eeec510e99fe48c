"""Who reads whom: the topologies of a clique, against their definitions."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.blocks.registry import blocks_of
from cliquegraph.blocks.topology import Nearest, pairs_of, small_world
from cliquegraph.cli.tables.steps import steps_json
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.proof.exact import compare_exactly
from cliquegraph.weights.official import OfficialLayout
from tests.networks import graph_of, network

PAIRS = {
    "chain": {(1, 2), (2, 3), (3, 4)},
    "ring": {(1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 1), (1, 4)},
    "none": set(),
    "complete": {(i, j) for i in range(1, 5) for j in range(1, 5) if i != j},
}


@pytest.mark.parametrize("word", PAIRS)
def test_words_mean_their_pairs(word: str) -> None:
    pairs = pairs_of(word, 4)
    assert set(pairs) == PAIRS[word]
    assert list(pairs) == sorted(pairs, key=lambda pair: pair[::-1])


def test_the_nearest_do_not_wrap() -> None:
    assert set(pairs_of(Nearest(nearest=2), 4)) == PAIRS["complete"] - {(1, 4), (4, 1)}


def test_a_direction_keeps_pairs_of_one_way() -> None:
    assert set(pairs_of("ring", 4, "forward")) == {(1, 2), (2, 3), (3, 4), (1, 4)}
    assert set(pairs_of("ring", 4, "feedback")) == {(2, 1), (3, 2), (4, 3), (4, 1)}


def watts_strogatz(n: int, neighbours: int, rewire: float, seed: int) -> set[frozenset[int]]:
    """The definition, on sets of nodes from 0: one edge after another."""
    count = 0

    def draw() -> float:
        nonlocal count
        text = f"{seed}:{count}".encode()
        count += 1
        return int.from_bytes(sha256(text).digest()[:8], "big") / 2**64

    half = range(1, neighbours // 2 + 1)
    edges = {frozenset((i, (i + d) % n)) for i in range(n) for d in half}
    for d in half:
        for i in range(n):
            if draw() < rewire:
                free = [t for t in range(n) if t != i and frozenset((i, t)) not in edges]
                if free:
                    edges.remove(frozenset((i, (i + d) % n)))
                    edges.add(frozenset((i, free[int(draw() * len(free))])))
    return edges


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "neighbours", "rewire"), [(8, 4, 0.75), (32, 4, 0.75), (7, 6, 1.0)])
def test_a_small_world_is_drawn_as_defined(
    n: int, neighbours: int, rewire: float, seed: int
) -> None:
    drawn = small_world(n, neighbours, rewire, seed)
    expected = watts_strogatz(n, neighbours, rewire, seed)
    assert {frozenset((i - 1, j - 1)) for i, j in drawn} == expected
    assert len(drawn) == len(expected) == n * neighbours // 2


def block(**keys: Any) -> NetworkSpec:
    return network({"layers": 4, "filters": 3, **keys})


def rows(spec: NetworkSpec) -> dict[object, object]:
    steps = cliquegraph.unroll(spec)
    return {row["writes"]: row["reads"] for row in steps_json(steps.blocks)}


def test_a_ring_reads_its_neighbors() -> None:
    reads = rows(block(edges="ring"))
    assert reads["X2@1"] == ["X0", "X1@1"]
    assert reads["X4@1"] == ["X0", "X1@1", "X3@1"]
    assert reads["X1@2"] == ["X2@1", "X4@1"]
    assert reads["X4@2"] == ["X1@2", "X3@2"]


def test_a_layer_reads_itself_and_x0_again_where_that_is_said() -> None:
    again = block(self=True, input={"to": "all", "stages": "all"}, edges="none")
    assert rows(again)["X3@2"] == ["X0", "X3@1"]
    first = block(edges="chain", self=True, input={"to": "first"})
    assert rows(first)["X1@1"] == ["X0"]
    assert rows(first)["X3@1"] == ["X2@1"]
    sources = block(edges=[[1, 2], [1, 4], [2, 1], [4, 3], [3, 4]], input={"to": "sources"})
    assert [name for name, reads in rows(sources).items() if "X0" in reads] == ["X1@1", "X3@1"]


WORLD = {"small_world": {"neighbours": 2, "rewire": 0.75, "seed": 1}}
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "ring": {"edges": "ring", "order": [3, 1, 4, 2]},
    "small world": {"edges": WORLD, "self": True, "stages": 3, "norm_per_stage": False},
    "feedback": {
        "edges": {"nearest": 2},
        "direction": "feedback",
        "self": True,
        "input": {"to": "all", "stages": "all"},
    },
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_each_is_lowered_as_declared(name: str) -> None:
    spec = block(**TOPOLOGIES[name], bottleneck=True)
    assert Compilation(spec).proof.holds
    assert sum(1 for _ in compare_exactly(spec)) > 6


def test_both_backends_compute_it() -> None:
    topologies = (block(**keys).blocks[0].model_dump() for keys in TOPOLOGIES.values())
    assert cliquegraph.verify(network(*topologies), level=1).ok


def test_a_drawn_graph_stands_in_the_file() -> None:
    spec = block(edges=WORLD)
    (declared,) = blocks_of(spec.blocks)
    assert declared.words.drawn == "X1 ← X3, X2 ← X3 X4, X3 ← X1 X2 X4, X4 ← X2 X3"
    assert f"    block 1 drawn: {declared.words.drawn}\n" in cliquegraph.compile(spec, "torch")


def test_the_authors_have_cliques_alone() -> None:
    spec = block(edges="ring", bottleneck=True)
    with pytest.raises(WeightsError, match="in block 1 not all layers read each other"):
        OfficialLayout(graph_of(spec))
