"""From op graphs to views: which updates are alike, and what statements are generated from."""

from __future__ import annotations

import pytest

from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.emit.outline import outline
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
        # Executed only at -O0, and otherwise retained for their weights.
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


def test_statements_know_every_update_that_they_are_generated_from() -> None:
    compilation = Compilation(network(POST, POST | {"filters": 3}))
    view = outline(compilation.steps, compilation.graph, (), ())
    block = next(each for each in view.classes if each.name == "CliqueBlock")
    update = next(each for each in view.classes if each.name == "Update")
    places = {s.targets: [str(origin) for origin in s.origins] for s in block.body.statements}
    assert places["x2_1",] == ["block1, stage 1 layer 2", "block2, stage 1 layer 2"]
    assert len(update.body.statements[-1].origins) == 2 * 2 * 3  # blocks, stages, layers
