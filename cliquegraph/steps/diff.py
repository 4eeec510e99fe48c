"""Comparison of two step graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cliquegraph.steps.graph import BlockSteps, Feature, Step, StepGraph


@dataclass(frozen=True)
class Difference:
    """One place where two step graphs differ; a side without it is empty."""

    place: str
    left: str
    right: str


def compare_steps(left: StepGraph, right: StepGraph) -> Iterator[Difference]:
    """Yield every difference, in the order of execution."""
    for index in range(max(len(left.blocks), len(right.blocks))):
        a = left.blocks[index] if index < len(left.blocks) else None
        b = right.blocks[index] if index < len(right.blocks) else None
        if a is None or b is None:
            yield Difference(f"block {index + 1}", _block(a), _block(b))
        else:
            yield from _compare_blocks(a, b)


def _compare_blocks(left: BlockSteps, right: BlockSteps) -> Iterator[Difference]:
    if _block(left) != _block(right):
        yield Difference(f"block {left.index}", _block(left), _block(right))
    ours = {step.writes: step for step in left.steps}
    theirs = {step.writes: step for step in right.steps}
    for written in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(written), theirs.get(written)
        if a != b:
            yield Difference(f"block {left.index}, {written}", _reads(a), _reads(b))
    common = [written for written in ours if written in theirs]
    if [written for written in theirs if written in ours] != common:
        place = f"block {left.index}, order of updates"
        yield Difference(place, _features(tuple(ours)), _features(tuple(theirs)))
    for what in ("feature", "transit"):
        a_features, b_features = getattr(left, what), getattr(right, what)
        if a_features != b_features:
            place = f"block {left.index}, {what}"
            yield Difference(place, _features(a_features), _features(b_features))


def _block(block: BlockSteps | None) -> str:
    if block is None:
        return ""
    return f"{block.declared.words.kind}, {block.declared.words.size}"


def _reads(step: Step | None) -> str:
    return "" if step is None else _features(step.reads)


def _features(features: tuple[Feature, ...]) -> str:
    return " ".join(map(str, features))
