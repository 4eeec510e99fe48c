"""The strip of a slab: what it tells is what generated PyTorch files do."""

from __future__ import annotations

import pytest

from cliquegraph import NetworkSpec, lower, unroll
from cliquegraph.draw.strip import LEVEL, Strip, strips
from cliquegraph.passes.pipeline import optimise
from tests.networks import EVERY_KEY, clique, shipped


def strips_of(network: NetworkSpec) -> list[list[Strip]]:
    steps = unroll(network)
    graph = optimise(lower(steps), LEVEL)
    return [strips(block, graph) for block in steps.blocks]


@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_windows_hold_what_each_step_reads(name: str) -> None:
    blocks = unroll(EVERY_KEY[name]).blocks
    for block, slabs in zip(blocks, strips_of(EVERY_KEY[name]), strict=True):
        reads = {str(step.writes): {str(each) for each in step.reads} for step in block.steps}
        for slab in slabs:
            ends = [0, *(each.stop for each in slab.columns)]
            assert [each.start for each in slab.columns] == ends[:-1]
            assert slab.channels == ends[-1]
            features = {"X0", *reads}
            names = [each.feature for each in slab.columns]
            assert len({*names} & features) == len(names)
            for writes, windows in slab.windows.items():
                inside = {
                    each.feature
                    for each in slab.columns
                    if any(a <= each.start and each.stop <= b for a, b in windows)
                }
                assert inside == reads[writes]
                held = sum(e.stop - e.start for e in slab.columns if e.feature in inside)
                assert sum(b - a for a, b in windows) == held


def test_a_clique_block_lies_in_one_slab_in_the_order_of_its_updates() -> None:
    ((slab,),) = strips_of(clique(3))
    names = [each.feature for each in slab.columns]
    assert names == ["X0", "X1@1", "X2@1", "X3@1", "X1@2", "X2@2", "X3@2"]
    columns = {each.feature: (each.start, each.stop) for each in slab.columns}
    assert slab.windows["X2@1"] == [(0, columns["X1@1"][1])]
    # It reads X1 and X3 in the order of their layers; its kernels lie in that order.
    assert slab.windows["X2@2"] == [columns["X1@2"], columns["X3@1"]]


@pytest.mark.parametrize("name", ["resnet18", "fractalnet20"])
def test_a_block_without_shared_moments_has_no_slab(name: str) -> None:
    assert not any(strips_of(shipped(name)))
