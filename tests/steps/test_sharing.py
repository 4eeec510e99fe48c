"""The check of sharing: it passes on the output of ``unroll`` and finds every kind of error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

import cliquegraph
from cliquegraph import StepGraph
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Step
from cliquegraph.steps.sharing import RULES, prove_sharing
from tests.networks import clique, dense_blocks, network, schedules

Change = Callable[[BlockSteps], BlockSteps]


def steps_of(**keys: Any) -> StepGraph:
    return cliquegraph.unroll(clique(**keys))


def changed(graph: StepGraph, change: Change) -> StepGraph:
    return replace(graph, blocks=(change(graph.blocks[0]), *graph.blocks[1:]))


def with_step(stage: int, layer: int, change: Callable[[Step], Step]) -> Change:
    def apply(block: BlockSteps) -> BlockSteps:
        steps = [
            change(step) if (step.stage, step.layer) == (stage, layer) else step
            for step in block.steps
        ]
        return replace(block, steps=tuple(steps))

    return apply


def failures(graph: StepGraph) -> dict[str, str]:
    return {claim.rule: claim.detail for claim in prove_sharing(graph).failures}


# ---- what unroll makes ---------------------------------------------------------------------


@given(schedules())
@settings(max_examples=300)
def test_it_holds_for_every_schedule_that_the_language_can_say(keys: dict[str, Any]) -> None:
    assert failures(cliquegraph.unroll(network({**keys, "filters": 1}))) == {}


@given(dense_blocks(), schedules(max_layers=4))
def test_it_holds_for_dense_blocks_beside_cliques(dense: Any, keys: dict[str, Any]) -> None:
    graph = cliquegraph.unroll(network(dense, {**keys, "filters": 1}, dense))
    proof = prove_sharing(graph)
    assert proof.holds
    assert len(proof.claims) == 3 * len(RULES)


def test_it_says_what_it_counted() -> None:
    proof = prove_sharing(steps_of(layers=5))
    assert {claim.rule: claim.detail for claim in proof.claims} == {
        "one kernel per pair": "25 pairs with kernels of their own",
        "stages of each kernel": "35 uses, 10 kernels re-used in a later stage",
        "no kernel unused": "15 forward, 10 feedback",
        "versions read": "10 updates, 10 versions",
        "block feature and transit": "feature of stage 2, transit of stage 2",
        "unrolled without a cycle": "depth 10",
        "connected": "5 layers, one component",
    }


@pytest.mark.parametrize("keys", [{"stages": 1}, {"last_stage_updates": 2}])
def test_no_clique_is_asked_for_without_a_second_stage_of_every_layer(
    keys: dict[str, Any],
) -> None:
    claims = {claim.rule: claim for claim in prove_sharing(steps_of(**keys)).claims}
    assert claims["connected"].holds
    assert claims["connected"].detail.endswith("each reached from X0 and leading out")


# ---- rule 1: one kernel per pair -----------------------------------------------------------


def test_a_kernel_of_another_pair_is_seen() -> None:
    swap = with_step(1, 3, lambda s: replace(s, weights=(s.weights[1], s.weights[0], s.weights[2])))
    assert (
        failures(changed(steps_of(), swap))["one kernel per pair"]
        == "stage 1 of X3 reads X0 with W1_3, not with W0_3"
    )


def test_a_kernel_too_few_is_seen() -> None:
    fewer = with_step(2, 1, lambda s: replace(s, weights=s.weights[:-1]))
    assert failures(changed(steps_of(), fewer)) == {
        "one kernel per pair": "stage 2 of X1 reads 2 layers with 1 kernels",
        "stages of each kernel": "W3_1 is used in no stage, the schedule says stage 2",
        "no kernel unused": "W3_1 is never used",
    }


def test_a_kernel_used_twice_in_one_step_is_seen() -> None:
    twice = with_step(
        1,
        3,
        lambda s: replace(s, reads=(*s.reads, s.reads[-1]), weights=(*s.weights, s.weights[-1])),
    )
    assert failures(changed(steps_of(), twice))["one kernel per pair"] == (
        "stage 1 of X3 uses one kernel twice"
    )


def test_a_weight_table_that_gives_two_pairs_one_slot_is_seen() -> None:
    """W(k→first) and W(k-1→last) are one slot in a public re-implementation."""
    n = 4

    def slot(edge: Edge) -> Edge:
        index = edge.source * (n - 1) + edge.target  # too small a row: targets run to n
        return Edge(edge.block, (index - 1) // (n - 1), (index - 1) % (n - 1) + 1)

    assert slot(Edge(1, 3, 1)) == slot(Edge(1, 2, n))

    def apply(block: BlockSteps) -> BlockSteps:
        steps = [replace(s, weights=tuple(map(slot, s.weights))) for s in block.steps]
        return replace(block, steps=tuple(steps))

    found = failures(changed(steps_of(layers=n), apply))
    assert found["one kernel per pair"] == "stage 1 of X4 reads X0 with W1_1, not with W0_4"
    assert "stages of each kernel" in found


# ---- rule 2: stages of each kernel ---------------------------------------------------------


def test_a_kernel_of_its_own_in_a_later_stage_is_seen() -> None:
    # Kernels not shared between stages: stage 2 has a table of its own, as if of another layer.
    def unshare(step: Step) -> Step:
        return replace(step, weights=tuple(replace(e, source=e.source + 10) for e in step.weights))

    found = failures(changed(steps_of(), with_step(2, 3, unshare)))
    assert found["stages of each kernel"] == (
        "W1_3 is used in stage 1, the schedule says stages 1, 2"
    )
    assert found["no kernel unused"] == "W11_3 is used, but the block does not have it"


def test_a_step_left_out_is_seen() -> None:
    found = failures(changed(steps_of(), lambda block: replace(block, steps=block.steps[:-1])))
    assert found["stages of each kernel"] == (
        "W1_3 is used in stage 1, the schedule says stages 1, 2"
    )
    assert found["versions read"].startswith("the updates are [(1, 1), (1, 2), (1, 3), (2, 1),")


def test_x0_read_in_stage_2_is_seen() -> None:
    def read_x0(step: Step) -> Step:
        return replace(
            step,
            reads=(Feature(1, 0, 0), *step.reads),
            weights=(Edge(1, 0, step.layer), *step.weights),
        )

    found = failures(changed(steps_of(), with_step(2, 2, read_x0)))
    assert found == {
        "stages of each kernel": "W0_2 is used in stages 1, 2, the schedule says stage 1",
        "versions read": "stage 2 of X2 reads {X0, X1@2, X3@1}, the schedule gives {X1@2, X3@1}",
    }


# ---- rule 3: no kernel unused --------------------------------------------------------------


def test_a_kernel_that_no_step_uses_is_seen() -> None:
    fewer = with_step(2, 1, lambda s: replace(s, reads=s.reads[:-1], weights=s.weights[:-1]))
    assert failures(changed(steps_of(), fewer))["no kernel unused"] == "W3_1 is never used"


def test_a_kernel_that_the_block_does_not_have_is_seen() -> None:
    # The authors' code keeps the feedback kernels of a block of one stage.
    both = steps_of(stages=2).blocks[0]
    found = failures(changed(steps_of(stages=1), lambda block: replace(block, steps=both.steps)))
    assert found["no kernel unused"] == "W2_1 is used, but the block does not have it"


# ---- rule 4: versions ----------------------------------------------------------------------


def test_an_old_version_is_seen() -> None:
    old = with_step(2, 3, lambda s: replace(s, reads=(replace(s.reads[0], stage=1), s.reads[1])))
    assert failures(changed(steps_of(), old)) == {
        "versions read": "stage 2 of X3 reads {X1@1, X2@2}, the schedule gives {X1@2, X2@2}"
    }


def test_simultaneous_steps_in_an_alternate_block_are_seen() -> None:
    simultaneous = steps_of(update="simultaneous").blocks[0]
    found = failures(changed(steps_of(), lambda block: replace(block, steps=simultaneous.steps)))
    assert found == {
        "versions read": "stage 2 of X2 reads {X1@1, X3@1}, the schedule gives {X1@2, X3@1}"
    }


def test_sources_out_of_order_are_seen() -> None:
    rotated = with_step(2, 2, lambda s: replace(s, reads=s.reads[::-1], weights=s.weights[::-1]))
    assert failures(changed(steps_of(), rotated)) == {
        "versions read": "stage 2 of X2 reads {X3@1, X1@2}, the schedule gives {X1@2, X3@1}"
    }


def test_another_order_of_visits_is_seen() -> None:
    found = failures(
        changed(
            steps_of(), lambda block: replace(block, steps=block.steps[:3] + block.steps[:2:-1])
        )
    )
    assert found == {
        "versions read": "the updates are [(1, 1), (1, 2), (1, 3), (2, 3), (2, 2), (2, 1)], "
        "the schedule says [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]"
    }


def test_a_version_written_in_place_of_another_is_seen() -> None:
    in_place = with_step(2, 1, lambda s: replace(s, writes=replace(s.writes, stage=1)))
    found = failures(changed(steps_of(), in_place))
    assert found["versions read"] == "stage 2 of X1 writes X1@1 a second time"


def test_a_version_that_is_not_the_steps_own_is_seen() -> None:
    wrong = with_step(2, 3, lambda s: replace(s, writes=replace(s.writes, stage=3)))
    found = failures(changed(steps_of(), wrong))
    assert found["versions read"] == "stage 2 of X3 writes X3@3"


def test_a_version_read_before_it_is_written_is_seen() -> None:
    newer = with_step(2, 2, lambda s: replace(s, reads=(s.reads[0], replace(s.reads[1], stage=2))))
    found = failures(changed(steps_of(), newer))
    assert found["versions read"] == "stage 2 of X2 reads {X3@2} before it is written"


# ---- rule 5: block feature and transit -----------------------------------------------------


def test_one_dictionary_kept_for_both_stages_is_seen() -> None:
    """The authors' issues #2 and #3: the stage-I feature then holds stage-II layers."""

    def overwrite(block: BlockSteps) -> BlockSteps:
        newest = {step.layer: step.writes for step in block.steps}
        return replace(block, feature=(Feature(1, 0, 0), *(newest[j] for j in sorted(newest))))

    assert failures(changed(steps_of(feature=1), overwrite)) == {
        "block feature and transit": "the block feature is {X0, X1@2, X2@2, X3@2}, "
        "the schedule gives {X0, X1@1, X2@1, X3@1}"
    }


def test_a_transit_with_x0_is_seen() -> None:
    found = failures(changed(steps_of(), lambda block: replace(block, transit=block.feature)))
    assert found == {
        "block feature and transit": "the transit is {X0, X1@2, X2@2, X3@2}, "
        "the schedule gives {X1@2, X2@2, X3@2}"
    }


# ---- rule 6: unrolled without a cycle ------------------------------------------------------


def test_a_cycle_is_seen() -> None:
    newest = with_step(2, 1, lambda s: replace(s, reads=(replace(s.reads[0], stage=2), s.reads[1])))
    found = failures(changed(steps_of(), newest))
    assert found["unrolled without a cycle"] == "a cycle: X1@2 → X2@2"
    assert found["versions read"] == "stage 2 of X1 reads {X2@2} before it is written"


# ---- rule 7: connected ---------------------------------------------------------------------


def test_a_block_without_feedback_is_no_clique() -> None:
    dense = steps_of(stages=1).blocks[0]
    found = failures(changed(steps_of(), lambda block: replace(block, steps=dense.steps)))
    assert found["connected"] == "the layers fall into 3 components: [{3}, {2}, {1}]"


# ---- messages name the block ---------------------------------------------------------------


def test_a_claim_names_its_block() -> None:
    graph = cliquegraph.unroll(network({"layers": 3, "filters": 2}, {"layers": 3, "filters": 2}))
    second = replace(graph.blocks[1], transit=graph.blocks[1].feature)
    proof = prove_sharing(replace(graph, blocks=(graph.blocks[0], second)))
    assert [(claim.block, claim.rule) for claim in proof.failures] == [
        (2, "block feature and transit")
    ]


def test_every_rule_is_broken_by_a_test_above() -> None:
    # A rule that is added must come with its own test.
    assert [rule.name for rule in RULES] == [
        "one kernel per pair",
        "stages of each kernel",
        "no kernel unused",
        "versions read",
        "block feature and transit",
        "unrolled without a cycle",
        "connected",
    ]
