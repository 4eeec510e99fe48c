"""The whole way: what stops it, and what no pass may change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

import cliquegraph
from cliquegraph import Graph
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.ir.node_link import to_json
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import AvgPool, MaxPool
from cliquegraph.ir.serialize import from_json
from cliquegraph.ir.types import Param
from cliquegraph.passes import pack
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from cliquegraph.steps.graph import StepGraph
from cliquegraph.steps.sharing import DECIDING, RULES, prove_sharing
from tests.networks import clique, network


def test_a_network_whose_sharing_is_not_proved_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def first_stage_is_overwritten(spec: cliquegraph.NetworkSpec) -> StepGraph:
        graph = cliquegraph.unroll(spec)
        return replace(graph, blocks=tuple(replace(b, feature=b.transit) for b in graph.blocks))

    monkeypatch.setattr("cliquegraph.compiler.unroll", first_stage_is_overwritten)
    with pytest.raises(VerificationError, match="block 1, block feature and transit: the block"):
        cliquegraph.compile(clique(), "torch")


def test_the_rules_that_compile_leaves_out_follow_from_the_others() -> None:
    # A broken graph that only they see would be written: none of these two is decided alone.
    assert {rule.name for rule in RULES} - {rule.name for rule in DECIDING} == {
        "unrolled without a cycle",
        "connected",
    }
    graph = cliquegraph.unroll(clique())
    block = graph.blocks[0]
    without_feedback = [s for s in block.steps if s.stage == 1]
    broken = replace(graph, blocks=(replace(block, steps=tuple(without_feedback)),))
    assert "connected" in {claim.rule for claim in prove_sharing(broken).failures}
    assert not prove_sharing(broken, DECIDING).holds


def test_a_pass_that_is_wrong_does_not_judge_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class PoolOtherwise:
        """The interpreter must not run what the pass has made."""

        name = "pool otherwise"

        def apply(self, graph: Graph) -> Graph:
            def other(node: Node) -> Node:
                return replace(node, op=MaxPool(2, 2)) if isinstance(node.op, AvgPool) else node

            return replace(graph, nodes=tuple(map(other, graph.nodes)))

    spec = network({"layers": 2, "filters": 3}, {"layers": 2, "filters": 3})
    assert cliquegraph.verify(spec, "torch").ok
    monkeypatch.setitem(LEVELS, 1, (*LEVELS[1], PoolOtherwise()))
    with pytest.raises(VerificationError, match=r"^transition1: what it writes is not as declared"):
        cliquegraph.compile(spec, "torch", level=1)
    monkeypatch.setattr(Compilation, "evidence", None)
    found = cliquegraph.verify(spec, "torch", level=1)
    assert not found.ok
    assert found.first_difference is not None
    assert "is x of transition1" in found.first_difference


def test_a_pass_that_moves_a_normalisation_ends_in_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forget_the_norms(param: Param, widths: list[int], order: list[int]) -> Param:
        return param

    monkeypatch.setattr(pack, "_permute", forget_the_norms)
    with pytest.raises(VerificationError, match="is not as declared"):
        cliquegraph.compile(clique(order="descending"), "torch")


def test_figures_weights_and_files_outlive_steps_that_are_not_taken() -> None:
    block = {"layers": 3, "filters": 3, "feature": 1}
    spec = network(block, block)  # nothing reads stage 2 of the last block
    literal, after = Compilation(spec, 0), Compilation(spec, 1)
    assert after.graph.idle
    assert after.graph.tensors == literal.graph.tensors
    assert after.cost == literal.cost
    torch = find_backend("torch")
    first, second = after.source(torch).split("class CliqueBlock2")
    assert "self.update1_2 = Update(" in first and "self.update1_2(" in first
    assert "self.update1_2 = Update(" in second and "self.update1_2(" not in second
    assert "retained for their weights" in second and "retained for their weights" not in first
    assert "self.update1_2(" in literal.source(torch).split("class CliqueBlock2")[1]


def test_a_damaged_graph_does_not_load() -> None:
    data = to_json(Compilation(clique()).graph)
    conv = next(node for node in data["nodes"] if node["op"] == "conv")
    conv["attributes"]["filters"] += 1
    with pytest.raises(UsageError, match="a damaged op graph: conv in stem"):
        from_json(data)
