"""What a ``Block`` may say that no kind of ours does: it reaches the graph, or is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cliquegraph import NetworkSpec
from cliquegraph.blocks.model import (
    Block,
    Conv,
    DropPath,
    Layer,
    Norm,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Skip,
    Words,
)
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import SpecError, VerificationError
from cliquegraph.emit.execute import drop_paths
from cliquegraph.ir.ops import BatchNorm, Normalize
from cliquegraph.ir.types import Field, Init
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.kinds import kinds
from tests.networks import graph_of, network

K = 3
EDGE: Ops = (Norm(), Relu(), Conv(3, K))
WORDS = Words("any", "Any block", "any size", "Update", "One update")


def network_of(monkeypatch: pytest.MonkeyPatch, *layers: Layer, **changes: Any) -> NetworkSpec:
    """A network of one block with these layers, each updated in two stages."""
    n = len(layers)
    stages = changes.pop("stages", 2)
    numbers = tuple(range(1, n + 1))
    leaving = Output(numbers, stages)
    declared = Block(layers, Schedule(numbers, (n,) * stages), leaving, leaving, WORDS, **changes)
    kind = replace(kinds()["clique"], block=lambda spec: declared)
    monkeypatch.setattr("cliquegraph.blocks.registry.kinds", lambda: {"clique": kind})
    return network({"layers": 2, "filters": K})


def pair(ops: Ops, layer: Ops = ()) -> tuple[Layer, Layer]:
    """Two layers that read X0 and each other by the same ops."""
    first, second = ((Read(0, ops), Read(i, ops)) for i in (2, 1))
    return Layer(first, K, ops=layer), Layer(second, K, ops=layer)


def test_a_scale_that_starts_at_0_does_so_at_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = (Norm(zero=True), Relu(), Conv(3, K))
    spec = network_of(monkeypatch, *pair(edge))
    for level in (0, 1, 2):
        graph = Compilation(spec, level).graph
        block = [n for n in graph.nodes if n.origin.layer is not None]
        # A Normalize starts its scale at 1: there is no member for another.
        assert not any(isinstance(n.op, Normalize) for n in block)
        norms = [n for n in block if isinstance(n.op, BatchNorm)]
        scales = [o.param for n in norms for o in n.operands if o.param.field is Field.SCALE]
        assert len(scales) == 4
        assert {piece.tensor.init for param in scales for piece in param.pieces} == {Init.ZEROS}


def skip(filters: int, role: str, index: int) -> Skip:
    return Skip((Conv(3, filters, "v", index), Norm(role)))


@pytest.mark.parametrize(
    ("layers", "stages", "message"),
    [
        (pair(EDGE, (skip(5, "a", 1), skip(K, "b", 2))), 1, "an update has one projection"),
        (pair((Conv(1, 2), skip(K, "a", 1)), ()), 1, "a skip on an edge can't project"),
        (pair(EDGE, (skip(5, "a", 1), Conv(1, K, "v", 2))), 2, "in stage 1"),
    ],
    ids=["two", "edge", "stage 2"],
)
def test_a_projection_that_would_share_tensors_by_name_is_refused(
    layers: tuple[Layer, ...], stages: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = network_of(monkeypatch, *layers, stages=stages)
    with pytest.raises(SpecError, match=message):
        graph_of(spec)


def test_updates_that_share_norms_may_read_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = (Conv(3, K), Norm("unit"), Relu())
    spec = network_of(monkeypatch, *pair(unit), norms="shared")
    for level in (0, 1, 2):
        source = Compilation(spec, level).source(find_backend("torch"))
        # Stage 1 of X2 reads X0 and X1, stage 2 only X1: the block has their normalizations.
        assert "unit=self.w1_to_2_unit" in source


def test_two_masks_of_one_module_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    drop = DropPath(0.5, per="batch", scale="training")
    dropped = Skip((Conv(3, K, "v"), Norm("mid_norm")), drop=drop)
    per_stage = network_of(monkeypatch, *pair(EDGE, (dropped,)), stages=3)
    assert len(set(drop_paths(graph_of(per_stage)))) == 6
    second = network_of(monkeypatch, *pair(EDGE, (dropped,)), stages=3, norms="second")
    with pytest.raises(VerificationError, match="draws in several stages"):
        drop_paths(graph_of(second))
