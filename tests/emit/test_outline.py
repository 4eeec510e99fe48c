"""From op graphs to views: what a call hands over, and which graphs have no such call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.outline import outline
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Concat
from tests.networks import clique, network

STAGE_2 = "update1_2 update2_2 update3_2"


POST = {"layers": 3, "filters": 4, "unit": "post_activation"}  # as many as the stem's


@pytest.mark.parametrize(
    ("spec", "level", "alike"),
    [
        # Stage 1 reads more with every step; from stage 2 on all read the same.
        (clique(), 1, {"block1": STAGE_2}),
        (network(POST, POST | {"filters": 3}), 1, dict.fromkeys(["block1", "block2"], STAGE_2)),
        (clique(stages=3, last_stage_updates=2), 0, {"block1": f"{STAGE_2} update1_3 update2_3"}),
        # One member, called in each stage from 2 on.
        (clique(stages=4, norm_per_stage=False), 0, {"block1": STAGE_2}),
        # Taken at -O0 alone, and otherwise held for their weights.
        (clique(feature=1), 0, {"block1": STAGE_2}),
        (clique(feature=1), 1, {}),
        # X1@1 has moments for more than one reader; X2@1 has one, which takes them itself.
        (clique(layers=2), 0, {"block1": "update1_2 update2_2"}),
        (clique(layers=2), 1, {}),
        (clique(stages=1), 1, {}),
        (network({"kind": "dense", "layers": 4, "filters": 4}), 1, {}),
    ],
)
def test_updates_are_alike_that_do_the_same_on_the_same_widths(
    spec: NetworkSpec, level: int, alike: dict[str, str]
) -> None:
    compilation = Compilation(spec, level)
    view = outline(compilation.steps, compilation.graph, (), ())
    assert {block: " ".join(names) for block, names in view.alike.items()} == alike


def test_an_update_that_gathers_a_second_list_is_refused() -> None:
    # A class takes one list: the second would silently be the first.
    compilation = Compilation(clique(), 1)
    graph = compilation.graph
    of = [n for n in graph if (n.origin.stage, n.origin.layer) == (2, 3)]
    gathered, *_ = of
    assert isinstance(gathered.op, Concat)
    two = gathered.inputs[::-1]
    second = Node(Concat(), two, (), (Value(gathered.output.type),), gathered.origin)
    place = graph.nodes.index(of[-1]) + 1
    nodes = (*graph.nodes[:place], second, *graph.nodes[place:])
    with pytest.raises(VerificationError, match="block1, stage 2 layer 3: gathers 2 lists"):
        outline(compilation.steps, replace(graph, nodes=nodes), (), ())
