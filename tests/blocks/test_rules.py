"""What no block can be, said to the author of a kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cliquegraph.blocks.model import (
    Block,
    Conv,
    Layer,
    Norm,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Words,
)
from cliquegraph.blocks.registry import blocks_of
from cliquegraph.blocks.rules import impossible_in
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.kinds import kinds
from tests.networks import EVERY_KEY, clique

EDGE: Ops = (Norm(), Relu(), Conv(3, 2))
WORDS = Words("two", "Two layers", "2 layers", "Update", "One update")


def block(**changes: Any) -> Block:
    """Two layers that read X0 and each other, in two stages."""
    layers = (Layer((Read(0, EDGE), Read(2, EDGE)), 2), Layer((Read(0, EDGE), Read(1, EDGE)), 2))
    whole = Output((1, 2), 2)
    declared = Block(layers, Schedule((1, 2), (2, 2)), whole, whole, WORDS)
    return replace(declared, **changes)


def reading(*reads: Read, ops: Ops = (), words: Words = WORDS) -> Block:
    """The same, where X2 reads something else, or does something more."""
    return block(layers=(block().layers[0], Layer(reads, 2, ops=ops)), words=words)


X0, X1 = Read(0, EDGE), Read(1, EDGE)
FAN_OUT = (Conv(3, 2, fan_out=True),)
IMPOSSIBLE = {
    "its order (2, 2) is no order": block(schedule=Schedule((2, 2), (2, 2))),
    "leave out layers before the last stage": block(schedule=Schedule((1, 2), (1, 2))),
    "stage 1 leaves out layers": block(schedule=Schedule((1, 2), (1,))),
    "its words are not staged": block(words=replace(WORDS, staged=False)),
    "its feature names layers (3,)": block(feature=Output((3,), 1)),
    "its transit refers to stage 3": block(transit=Output((1,), 3)),
    "is marked `alone` but has several values": block(transit=Output((1, 2), 2, alone=True)),
    "X2 reads [1, 0], which are no layers in ascending order": reading(X1, X0),
    "X2 reads [0, 9]": reading(X0, Read(9, EDGE)),
    "X2 reads [0, 0]": reading(X0, X0),
    "X2 reads nothing in stage 1": reading(Read(2, EDGE)),
    "X2 reads nothing in stage 2": reading(X0),
    "X2 has two ops of the role norm": reading(X0, X1, ops=(Norm(),)),
    "X2 has two ops of the role v": reading(X0, X1, ops=(Conv(3, 2, "v"), Conv(3, 2, "v"))),
    "X2 has two ops of the role w": reading(X0, Read(1, (Conv(1, 2), Conv(3, 2)))),
    "that takes the block's too": reading(X0, Read(1, (Conv(3, 2, stride=2, reduce=True),))),
    "starts kernels that updates share by their fan-out": reading(X0, Read(1, FAN_OUT)),
    "one kernel over all that it reads": reading(X0, Read(1, (Conv(3, 2, role="conv"),))),
}


@pytest.mark.parametrize("message", IMPOSSIBLE)
def test_what_is_impossible_is_said(message: str) -> None:
    assert any(message in each for each in impossible_in(IMPOSSIBLE[message]))


def test_what_our_kinds_declare_is_possible() -> None:
    assert not list(impossible_in(block()))
    for network in EVERY_KEY.values():
        assert not [each for b in blocks_of(network.blocks) for each in impossible_in(b)]


def test_the_kind_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(kinds()["clique"], block=lambda spec: block(feature=Output((3,), 1)))
    monkeypatch.setattr("cliquegraph.blocks.registry.kinds", lambda: {"clique": wrong})
    with pytest.raises(UsageError) as caught:
        blocks_of(clique().blocks)
    assert str(caught.value) == (
        "block 1: the kind 'clique' has an error: "
        "its feature names layers (3,) that the block does not have"
    )
