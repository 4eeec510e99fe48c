"""Museum: parameters counted once per use, operations once instead of per use."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from cliquegraph import Graph, NetworkCost
from cliquegraph.analysis.cost import network_cost
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import ExpectError
from tests.museum.exhibits import exhibit
from tests.networks import shipped


def refused(compilation: Compilation) -> str:
    with pytest.raises(ExpectError) as caught:
        compilation.require_expected()
    return "; ".join(each.message for each in caught.value.diagnostics)


def with_total(graph: Graph, **figures: int) -> NetworkCost:
    right = network_cost(graph)
    return replace(right, total=replace(right.total, **figures))


@exhibit("`expect`", "expected parameters 72994, but the network has 88,546 (88546)")
def test_parameters_once_per_use(monkeypatch: pytest.MonkeyPatch) -> str:
    """The parameters of a re-used layer are counted once per use.

    Seen: counting tools.
    """

    def per_use(graph: Graph) -> NetworkCost:
        read = (p.tensor for node in graph for o in node.operands for p in o.pieces)
        return with_total(graph, parameters=sum(t.size for t in read if t.field.trainable))

    monkeypatch.setattr(sys.modules["cliquegraph.compiler"], "network_cost", per_use)
    return refused(Compilation(shipped("quickstart")))


@exhibit("`expect`", "expected flops 6.01M, but the network has 4,765,760 (4.77M)")
def test_operations_once_instead_of_per_use(monkeypatch: pytest.MonkeyPatch) -> str:
    """The operations of a re-used layer are counted once instead of per use.

    Seen: counting tools.
    """

    def once(graph: Graph) -> NetworkCost:
        counted: set[object] = set()
        macs = 0
        for node in graph:
            for operand in node.operands:
                if operand.param not in counted and node.macs:
                    share = operand.extent / sum(o.extent for o in node.operands)
                    macs += round(node.macs * share)
            counted.update(operand.param for operand in node.operands)
        return with_total(graph, macs=macs)

    monkeypatch.setattr(sys.modules["cliquegraph.compiler"], "network_cost", once)
    return refused(Compilation(shipped("quickstart")))


@exhibit(
    "`expect`",
    "expected parameters 10.02M, but the network has 10,480,938 (10.48M); "
    "expected flops 8.49G, but the network has 10,560,229,388 (10.56G)",
)
def test_equal_blocks() -> str:
    """CliqueNet k=150, T=30 is built of three equal blocks of 5 layers, which the paper does not
    say and its figures deny: it is 4, 5, 6.

    Seen: users of the authors' code.
    """
    equal = [f"blocks.{b}.layers=5" for b in range(3)]
    return refused(Compilation(shipped("cliquenet_k150_t30_abc", *equal)))
