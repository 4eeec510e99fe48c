"""Stem, transitions and readout as ops."""

from __future__ import annotations

from typing import Any

from cliquegraph import NetworkSpec
from cliquegraph.blocks.boundaries import readout_ops, stem_of, transition_of
from cliquegraph.blocks.model import AvgPool, Bias, Conv, Dropout, MaxPool, Norm, Relu
from cliquegraph.spec.schema import Transition
from tests.networks import network

BLOCK: dict[str, Any] = {"layers": 2, "filters": 3}


def three(**sections: Any) -> NetworkSpec:
    return network(BLOCK, BLOCK, BLOCK, **sections)


def test_the_keys_of_a_stem_are_ops() -> None:
    assert stem_of(network(BLOCK)) == (Conv(3, 4, "conv"),)
    pool = {"kind": "max", "kernel": 3, "stride": 2}
    stem = {"filters": 8, "kernel": 7, "stride": 2, "norm": True, "pool": pool, "init": "fan_out"}
    assert stem_of(network(BLOCK, stem=stem)) == (
        Conv(7, 8, "conv", stride=2, fan_out=True),
        Norm(),
        Relu(),
        MaxPool(3, 2, 1),
    )
    average = {"filters": 8, "pool": {"kind": "avg", "kernel": 3, "stride": 2}}
    assert stem_of(network(BLOCK, stem=average))[-1] == AvgPool(3, 2)


def test_a_stem_of_ops_and_none() -> None:
    ops = [{"conv": 5, "filters": 6}, "bias", "relu", {"conv": 1, "filters": 2}, "norm"]
    assert stem_of(network(BLOCK, stem={"ops": ops})) == (
        Conv(5, 6, "conv1"),
        Bias("bias1"),
        Relu(),
        Conv(1, 2, "conv2"),
        Norm("norm1"),
    )
    assert stem_of(network(BLOCK, stem="none")) == ()


def test_each_boundary_has_its_transition() -> None:
    assert transition_of(three(), 2) == Transition()
    assert transition_of(three(transition="none"), 2) == ()
    spec = three(transition=[{"ops": [{"dropout": 0.5}]}, {"pool": "max"}])
    assert transition_of(spec, 1) == (Dropout(0.5),)
    assert transition_of(spec, 2) == Transition(pool="max")
    assert transition_of(three(transition=["none", {}]), 1) == ()


def test_a_readout_of_ops() -> None:
    assert readout_ops(network(BLOCK)) is None
    ops = ["relu", {"conv": 1, "filters": 9}, "norm"]
    spec = network(BLOCK, readout={"ops": ops, "pool": "max"})
    assert readout_ops(spec) == (Relu(), Conv(1, 9, "conv1"), Norm("norm1"))
    assert readout_ops(network(BLOCK, readout={"ops": []})) == ()
