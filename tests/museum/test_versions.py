"""Museum: one dictionary kept for both stages."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

import cliquegraph
from cliquegraph import Graph
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.nodes import Node
from cliquegraph.passes.pack import Pack
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.steps.graph import BlockSteps, Feature, Step
from tests.museum.exhibits import exhibit, proof_says, verify_says
from tests.networks import clique, network
from tests.tampered import verify_tampered

I_II = network({"layers": 3, "filters": 3, "feature": 1}, {"layers": 2, "filters": 3})


@exhibit(
    "check of sharing",
    "block feature and transit: the block feature is {X0, X1@2, X2@2, X3@2}, "
    "the schedule gives {X0, X1@1, X2@1, X3@1}",
)
def test_one_dictionary_for_both_stages() -> str:
    """One dictionary is kept for both stages and updated in place: the "stage I" list holds
    stage-II features.

    Seen: the authors' code, issues #2 and #3.
    """
    steps = cliquegraph.unroll(I_II)
    block = steps.blocks[0]
    newest = {step.layer: step.writes for step in block.steps}
    overwritten = replace(block, feature=(Feature(1, 0, 0), *newest.values()))
    return proof_says(replace(steps, blocks=(overwritten,)))


@dataclass(frozen=True)
class OneDictionary:
    """A pass that gives the block feature the last version of every layer."""

    name = "one dictionary"

    def apply(self, graph: Graph) -> Graph:
        newest = {
            node.origin.layer: node.output
            for node in graph
            if node.origin.section.index == 1 and node.origin.layer and node.output.hint
        }

        def overwritten(node: Node) -> Node:
            if node.output is not graph.features[0]:
                return node
            return replace(node, inputs=(node.inputs[0], *newest.values()))

        return replace(graph, nodes=tuple(map(overwritten, graph.nodes)))


@exhibit(
    "exact comparison",
    "block1: the block feature is not as declared, in evaluation",
)
def test_one_dictionary_in_the_op_graph(monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in the op graph: a pass wires the block feature to the versions written last.
    Types and storage stay right.

    Seen: the authors' code, issues #2 and #3.
    """
    monkeypatch.setitem(LEVELS, 0, (Pack(), OneDictionary()))
    with pytest.raises(VerificationError) as caught:
        cliquegraph.compile(I_II, "torch", level=0)
    return str(caught.value)


@exhibit(
    "`verify`",
    "torch, evaluation: the first value that differs is feature of block1, by … (block1)",
)
def test_one_dictionary_in_a_generated_file(monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in a generated file: the block feature concatenates what stage II wrote.

    Seen: the authors' code, issues #2 and #3.
    """
    stage_1, stage_2 = " = [x1_1, x2_1, x3_1]", " = [x1_2, x2_2, x3_2]"
    return verify_says(verify_tampered(monkeypatch, stage_1, stage_2, spec=I_II))


@exhibit(
    "check of sharing",
    "versions read: stage 2 of X2 reads {X1@2, X3@1}, the schedule gives {X1@1, X3@1}",
)
def test_a_dictionary_updated_in_place_makes_simultaneous_updates_alternate() -> str:
    """The dictionary of the previous stage is the one being written: an update that should read
    the previous stage alone reads what this stage has written already.

    Seen: the authors' code, issues #2 and #3, of which this is the other face.
    """

    def in_place(block: BlockSteps) -> BlockSteps:
        held: dict[int, Feature] = {}
        steps: list[Step] = []
        for step in block.steps:
            steps.append(replace(step, reads=tuple(held.get(r.layer, r) for r in step.reads)))
            held[step.layer] = step.writes
        return replace(block, steps=tuple(steps))

    steps = cliquegraph.unroll(clique(update="simultaneous"))
    return proof_says(replace(steps, blocks=tuple(map(in_place, steps.blocks))))
