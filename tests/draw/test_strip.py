"""The strip of a slab: what it tells is what generated PyTorch files do."""

from __future__ import annotations

import pytest

from cliquegraph import NetworkSpec, lower, unroll
from cliquegraph import compile as compile_network
from cliquegraph.draw.strip import LEVEL, Strip, strips
from cliquegraph.passes.pipeline import optimise
from tests.networks import EVERY_KEY, clique, shipped


def strips_of(network: NetworkSpec) -> list[list[Strip]]:
    steps = unroll(network)
    graph = optimise(lower(steps), LEVEL)
    return [strips(block, graph) for block in steps.blocks]


@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_windows_and_copies_are_what_each_step_reads(name: str) -> None:
    blocks = unroll(EVERY_KEY[name]).blocks
    for block, slabs in zip(blocks, strips_of(EVERY_KEY[name]), strict=True):
        reads = {str(step.writes): {str(each) for each in step.reads} for step in block.steps}
        for slab in slabs:
            ends = [0, *(each.stop for each in slab.columns)]
            assert [each.start for each in slab.columns] == ends[:-1]
            assert slab.channels == ends[-1]
            names = {each.feature for each in slab.columns}
            assert len(names) == len(slab.columns)
            assert names <= {"X0", *reads}
            for writes, reading in slab.steps.items():
                inside = [
                    each
                    for each in slab.columns
                    if any(a <= each.start and each.stop <= b for a, b in reading.windows)
                ]
                windows = {each.feature for each in inside}
                assert windows | {*reading.copies} == reads[writes] & names
                assert windows.isdisjoint(reading.copies)
                width = sum(each.stop - each.start for each in inside)
                assert sum(b - a for a, b in reading.windows) == width


WITH_STRIPS = {
    *("defaults", "abc", "schedule", "shared_norm", "one_stage", "over_time_per_stage", "dropout"),
    *("dense", "mixed", "residual_mixed"),
}
"""Where steps normalize several features together; after the convolution, readouts alone do."""


@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_blocks_have_a_strip_where_their_steps_read_a_slab(name: str) -> None:
    has_strips = any(strips_of(EVERY_KEY[name]))
    assert has_strips == (name in WITH_STRIPS)
    if has_strips:
        assert " = Slab(k0 + " in compile_network(EVERY_KEY[name], "torch", level=LEVEL)


def test_a_step_that_nothing_needs_is_not_in_the_strip() -> None:
    steps = unroll(EVERY_KEY["schedule"])
    told = [{*slab.steps} for slabs in strips_of(EVERY_KEY["schedule"]) for slab in slabs]
    written = [{str(step.writes) for step in block.steps} for block in steps.blocks]
    assert told != written
    assert all(some <= every for some, every in zip(told, written, strict=True))


def test_what_is_not_normalized_first_is_copied() -> None:
    ((slab, *_), *_) = strips_of(EVERY_KEY["shared_norm"])
    assert any(reading.copies and not reading.windows for reading in slab.steps.values())


def test_a_clique_block_lies_in_one_slab_in_the_order_of_its_updates() -> None:
    ((slab,),) = strips_of(clique(3))
    names = [each.feature for each in slab.columns]
    assert names == ["X0", "X1@1", "X2@1", "X3@1", "X1@2", "X2@2", "X3@2"]
    columns = {each.feature: (each.start, each.stop) for each in slab.columns}
    assert slab.steps["X2@1"].windows == ((0, columns["X1@1"][1]),)
    # It reads X1 and X3 in the order of their layers; its kernels lie in that order.
    assert slab.steps["X2@2"].windows == (columns["X1@2"], columns["X3@1"])


@pytest.mark.parametrize("name", ["resnet18", "fractalnet20"])
def test_a_block_without_shared_moments_has_no_slab(name: str) -> None:
    assert not any(strips_of(shipped(name)))
