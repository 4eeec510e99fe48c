"""Dead updates: unused results are not computed, and no weights are lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from cliquegraph import Graph, NetworkSpec, sample_tensors
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.storage import from_storage, to_storage
from cliquegraph.passes.dead import DropDeadSteps
from cliquegraph.passes.moments import ShareMoments
from cliquegraph.passes.pack import Pack
from cliquegraph.passes.pipeline import run_passes
from tests.excerpts import before_and_after, golden
from tests.function import assert_same_function
from tests.networks import clique, graph_of, network, networks, shipped

Step = tuple[str, int | None, int | None]


def without_dead_steps(graph: Graph) -> Graph:
    return run_passes(graph, [DropDeadSteps()])


def step_of(node: Node) -> Step:
    return str(node.origin.section), node.origin.stage, node.origin.layer


def needed(graph: Graph) -> set[Step]:
    """The steps that what the network returns depends on, and those that share statistics."""
    steps: set[Step] = set()
    while True:
        moved = {
            operand.param
            for node in graph
            for operand in node.operands
            if step_of(node) in steps and not operand.param.field.trainable
        }
        values = set(graph.outputs)
        found = set()
        for node in reversed(graph.nodes):
            shares = any(operand.param in moved for operand in node.operands)
            if shares or not values.isdisjoint(node.outputs):
                values.update(node.inputs)
                found.add(step_of(node))
        if found == steps:
            return steps
        steps = found


def test_what_it_does_to_a_last_block_of_which_stage_1_is_the_feature() -> None:
    graph = graph_of(shipped("cliquenet_k36_t15_i_ii"))
    places = (
        "block3, stage 1 layer 5",
        "block3, stage 2 layer 1",
        "block3, line",
        "return",
        "unused",
    )
    assert before_and_after(graph, DropDeadSteps(), *places) == golden("drop_dead_steps")


def test_stage_2_of_a_last_block_whose_feature_is_stage_1s_is_not_executed() -> None:
    after = without_dead_steps(graph_of(shipped("cliquenet_k36_t15_i_ii")))
    assert {step_of(node) for node in after.idle} == {("block3", 2, j) for j in range(1, 6)}
    # The other blocks' stage 2 is what the transitions read.
    assert ("block2", 2, 5) in {step_of(node) for node in after.nodes}


def test_where_everything_is_read_nothing_is_dropped() -> None:
    for spec in (shipped("cliquenet_k36_t15_ii_ii"), shipped("densenet_k12_t36"), clique()):
        graph = graph_of(spec)
        assert without_dead_steps(graph) == graph


@given(networks())
def test_a_step_is_dropped_whole_or_not_at_all_and_only_if_nothing_needs_it(
    spec: NetworkSpec,
) -> None:
    graph = graph_of(spec)
    after = without_dead_steps(graph)
    live, dead = ({step_of(node) for node in each} for each in (after.nodes, after.idle))
    assert live.isdisjoint(dead)
    assert {(s, k, j) for s, k, j in dead if j is None} == set()
    assert dead == {step for step in map(step_of, graph) if step[2]} - needed(graph)
    assert [*after.nodes, *after.idle] == sorted(
        graph.nodes, key=lambda node: (step_of(node) in dead, graph.nodes.index(node))
    )


@given(networks())
@settings(max_examples=40)
def test_the_function_stays_the_same(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    assert_same_function(graph, without_dead_steps(graph))


@pytest.mark.parametrize("passes", [(), (Pack(),), (Pack(), ShareMoments())], ids=len)
def test_what_a_dropped_step_holds_stays_the_networks(passes: tuple[Pack, ...]) -> None:
    block = {"layers": 3, "filters": 3, "feature": 1}
    graph = run_passes(graph_of(network(block, block)), passes)
    after = without_dead_steps(graph)
    assert {step_of(node) for node in after.idle} == {("block2", 2, j) for j in (1, 2, 3)}
    assert set(after.params) == set(graph.params)
    assert after.tensors == graph.tensors
    tensors = sample_tensors(graph)
    back = from_storage(to_storage(after, tensors))
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], array) for name, array in tensors.items())


def test_kernels_that_a_live_step_reads_too_are_no_idle_ones() -> None:
    graph = without_dead_steps(graph_of(clique(feature=1)))
    read = {o.param for node in graph.nodes for o in node.operands}
    held = {o.param for node in graph.idle for o in node.operands}
    shared = {param.slot.role for param in held & read}
    assert shared == {"w"}  # W(1→2) and others serve stage 1, which is live
    assert {param.slot.role for param in held - read} == {"norm", "w"}


def test_an_update_that_moves_statistics_which_another_moves_is_taken() -> None:
    block = {"layers": 2, "stages": 3, "update": "simultaneous", "norm_per_stage": False}
    spec = network(block | {"filters": 1, "kernel": 1, "last_stage_updates": 1})
    assert not without_dead_steps(graph_of(spec)).idle
