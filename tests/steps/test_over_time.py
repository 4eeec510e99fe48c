"""What readouts over time read, and the rule that says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import cliquegraph
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.steps.graph import BlockSteps, Reading, StepGraph
from cliquegraph.steps.sharing import prove_sharing
from tests.networks import EVERY_KEY, network

OVER_TIME = {"blocks": "last", "stages": "all"}
CHAIN = {
    "kind": "graph",
    "layers": 3,
    "filters": 2,
    "edges": "chain",
    "self": [],
    "input": {"to": "first", "stages": "all", "edge": [{"conv": 3}]},
    "edge": [{"conv": 3}],
    "stages": 5,
    "update": "simultaneous",
    "initial": "zero",
    "output": {"layers": "last"},
}


def steps(**block: Any) -> StepGraph:
    return cliquegraph.unroll(network(block, readout=OVER_TIME))


def read(graph: StepGraph) -> dict[int, str]:
    return {each.stage: " ".join(map(str, each.features)) for each in graph.blocks[-1].readings}


def test_the_feature_is_read_at_the_end_of_each_stage() -> None:
    graph = steps(layers=2, filters=2, stages=3, last_stage_updates=1)
    assert read(graph) == {1: "X0 X1@1 X2@1", 2: "X0 X1@2 X2@2", 3: "X0 X1@3 X2@2"}
    assert graph.blocks[-1].readings[-1].features == graph.blocks[-1].feature


def test_the_last_stage_is_that_of_the_feature() -> None:
    assert [*read(steps(layers=2, filters=2, stages=4, feature=3))] == [1, 2, 3]


def test_the_first_stage_is_the_one_in_which_the_image_has_arrived() -> None:
    # X0 reaches X1 in stage 1, X2 in stage 2, X3 in stage 3: before, X3 is computed from zeros.
    assert read(steps(**CHAIN)) == {3: "X3@3", 4: "X3@4", 5: "X3@5"}
    assert [*read(steps(**{**CHAIN, "initial": "visit"}))] == [1, 2, 3, 4, 5]


def test_earlier_blocks_are_not_read() -> None:
    blocks = cliquegraph.unroll(EVERY_KEY["over_time_per_stage"]).blocks
    assert [len(block.readings) for block in blocks] == [0, 3]


@pytest.mark.parametrize(
    "block", [{"layers": 2, "filters": 2, "feature": 1}, {**CHAIN, "stages": 3}], ids=str
)
def test_one_stage_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="is of one stage alone"):
        steps(**block)


def change(graph: StepGraph, *readings: Reading) -> StepGraph:
    block: BlockSteps = replace(graph.blocks[-1], readings=readings)
    return replace(graph, blocks=(*graph.blocks[:-1], block))


def test_the_rule_of_the_block_feature_covers_what_is_read() -> None:
    graph = steps(layers=2, filters=2, stages=3)
    one, two, three = graph.blocks[-1].readings
    (claim,) = (c for c in prove_sharing(graph).claims if c.rule == "block feature and transit")
    assert claim.detail.endswith("read in stages 1, 2, 3")
    for broken, message in (
        (change(graph, two, three), "readouts read stages 2, 3, the schedule says stages 1, 2, 3"),
        (
            change(graph, one, replace(two, features=three.features), three),
            "the readout of stage 2 reads {X0, X1@3, X2@3}",
        ),
    ):
        (failure,) = prove_sharing(broken).failures
        assert message in failure.detail
