"""The pipeline: which passes run, and what is said when one breaks the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from cliquegraph import Graph, optimise
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.passes.cse import ShareCommon
from cliquegraph.passes.pack import Pack
from cliquegraph.passes.pipeline import (
    DEFAULT_LEVEL,
    INFERENCE,
    LEVELS,
    Pass,
    passes_of,
    run_passes,
)
from tests.networks import clique, graph_of, network, shipped


@dataclass(frozen=True)
class Same:
    name = "same"

    def apply(self, graph: Graph) -> Graph:
        return graph


@dataclass(frozen=True)
class Reverse:
    name = "reverse"

    def apply(self, graph: Graph) -> Graph:
        return replace(graph, nodes=(graph.nodes[0], *graph.nodes[:0:-1]))


def test_passes_run_in_order() -> None:
    seen: list[str] = []

    class Watch:
        def __init__(self, name: str) -> None:
            self.name = name

        def apply(self, graph: Graph) -> Graph:
            seen.append(self.name)
            return graph

    run_passes(graph_of(clique()), [Watch("first"), Watch("second")])
    assert seen == ["first", "second"]


def test_a_failure_names_the_passes_that_had_run() -> None:
    with pytest.raises(VerificationError) as caught:
        run_passes(graph_of(clique()), [Same(), Pack(), Reverse(), Same()])
    assert str(caught.value) == (
        "after same → pack → reverse: linear in classifier: reads pooled before it is written"
    )


def test_the_graph_that_is_given_stays_what_it_was() -> None:
    graph = graph_of(clique(order="descending"))
    before = graph.digest()
    optimise(graph)
    assert graph.digest() == before


@pytest.mark.parametrize("level", [-1, max(LEVELS) + 1])
def test_an_unknown_level_is_the_users_error(level: int) -> None:
    with pytest.raises(UsageError, match=rf"there is no level -O{level}; this version has -O0"):
        passes_of(level)


def test_every_level_shares_what_is_common_and_packs() -> None:
    # Backends print one operand per convolution; without Pack there would be more.
    for passes in (*LEVELS.values(), INFERENCE):
        assert isinstance(passes[0], ShareCommon) and isinstance(passes[1], Pack)


def test_levels_build_on_each_other() -> None:
    for lower, higher in pairwise(LEVELS.values()):
        assert higher[: len(lower)] == lower


def test_the_passes_of_each_level_by_name() -> None:
    names = {level: [each.name for each in passes] for level, passes in LEVELS.items()}
    shared = ["share common", "pack", "pool first", "share moments", "drop dead steps"]
    shared.append("lay out")
    assert names == {0: ["share common", "pack"], 1: shared, 2: [*shared, "recompute"]}
    folded = ["share common", "pack", "pool first", "drop dead steps", "fold"]
    assert [each.name for each in INFERENCE] == folded
    assert DEFAULT_LEVEL == 0


@pytest.mark.parametrize("passes", [*LEVELS.values(), INFERENCE], ids=["0", "1", "2", "inference"])
def test_every_pass_changes_a_shipped_network(passes: tuple[Pass, ...]) -> None:
    unused = {each.name for each in passes}
    for name in ("quickstart", "cliquenet_k36_t15_i_ii", "rcnn_96"):
        graph = graph_of(shipped(name))
        for each in passes:
            after = each.apply(graph)
            if after != graph:
                unused.discard(each.name)
            graph = after
    assert not unused


def test_every_level_takes_every_network() -> None:
    spec = network({"layers": 3, "filters": 2}, {"kind": "dense", "layers": 2, "filters": 2})
    for level in LEVELS:
        optimise(graph_of(spec), level)
