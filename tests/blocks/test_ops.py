"""Lists of ops: what a spec says, and the names of the tensors in the model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from cliquegraph.blocks.model import (
    AvgPool,
    Bias,
    Conv,
    Dropout,
    DropPath,
    Gate,
    GroupNorm,
    LocalResponse,
    MaxPool,
    Norm,
    Ops,
    Relu,
    Skip,
    Upsample,
    walk,
)
from cliquegraph.blocks.ops import boundary_ops, edge_ops, layer_ops, width_behind
from cliquegraph.spec.ops import OpList, format_ops

ADAPTER: TypeAdapter[Any] = TypeAdapter(OpList)


def read(*ops: Any) -> Any:
    return ADAPTER.validate_python(list(ops))


def roles(ops: Ops) -> list[str]:
    """The role of each op with tensors; of a convolution with its index."""
    found = []
    for op in walk(ops):
        if isinstance(op, Conv):
            found.append(op.role if op.index is None else f"{op.role}_{op.index}")
        elif isinstance(op, Norm | GroupNorm | Bias | Gate):
            found.append(op.role)
    return found


def test_each_op_has_its_meaning() -> None:
    local = {"local_response": {"size": 5, "alpha": 0.001, "beta": 0.75}}
    ops = read("norm", "relu", "bias", "gate", {"group_norm": 2}, local, {"upsample": 2})
    assert layer_ops(ops, 8) == (
        Norm("norm1"),
        Relu(),
        Bias(),
        Gate(),
        GroupNorm(2, "norm2"),
        LocalResponse(5, 0.001, 0.75),
        Upsample(2),
    )
    pools = read({"max_pool": 3, "stride": 2, "pad": 1}, {"max_pool": 2}, {"avg_pool": 2})
    assert layer_ops(pools, 8) == (MaxPool(3, 2, 1), MaxPool(2, 2), AvgPool(2, 2))
    assert layer_ops(read({"dropout": 0.5}, {"dropout": 0.0}), 8) == (Dropout(0.5),)


def test_a_convolution_writes_what_it_says_or_what_its_layer_has() -> None:
    own, times, layers, depthwise = layer_ops(
        read(
            {"conv": 1, "filters": 3},
            {"conv": 1, "filters": "x4"},
            {"conv": 3, "bias": True, "reduce": True},
            {"conv": 3, "depthwise": True, "stride": 2},
        ),
        8,
    )
    assert own == Conv(1, 3, "v", 1)
    assert times == Conv(1, 32, "v", 2)
    assert layers == Conv(3, 8, "v", 3, reduce=True, bias=True)
    assert depthwise == Conv(3, None, "v", 4, stride=2, depthwise=True)


def test_the_edge_of_a_clique() -> None:
    edge = edge_ops(read("norm", "relu", {"conv": 3}), 36)
    assert edge == (Norm(), Relu(), Conv(3, 36))


def test_a_skip_has_a_branch_a_shortcut_and_drop_path() -> None:
    branch = [{"conv": 3}, "norm", "relu", {"conv": 3}, "norm"]
    drop = {"last": 0.5, "per": "image"}
    ops = layer_ops(read({"skip": branch, "shortcut": "pad", "drop_path": drop}, "norm"), 4)
    skip = ops[0]
    assert isinstance(skip, Skip)
    assert (skip.shortcut, skip.drop) == ("pad", DropPath(0.5, "image"))
    assert roles(ops) == ["v_1", "norm1", "v_2", "norm2", "norm3"]
    (alone,) = layer_ops(read({"skip": ["relu"], "shortcut": [], "drop_path": {"last": 0.0}}), 4)
    assert alone == Skip((Relu(),), "identity")


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        (["norm", {"conv": 1}, "norm", {"conv": 3}], ["norm", "w_1", "norm", "w_2"]),
        (["norm", "norm", {"conv": 3}], ["norm", "edge_norm2", "w"]),
        ([{"group_norm": 1}, {"conv": 3}, "norm"], ["norm", "w", "norm2"]),
        ([{"conv": 3}, "bias", "gate", "bias"], ["w", "bias", "gate", "bias_2"]),
    ],
)
def test_names_on_an_edge(ops: list[Any], expected: list[str]) -> None:
    assert roles(edge_ops(read(*ops), 4)) == expected


def test_names_between_blocks() -> None:
    ops = [{"conv": 3, "filters": 4}, "norm", "bias", {"conv": 1, "filters": 2}, {"group_norm": 1}]
    assert roles(boundary_ops(read(*ops))) == ["conv1", "norm1", "bias1", "conv2", "norm2"]


def test_the_width_behind_ops() -> None:
    ops = layer_ops(read({"skip": [{"conv": 1, "filters": 6}]}, {"conv": 3, "depthwise": True}), 4)
    assert width_behind(ops, 3) == 6
    assert width_behind((Relu(),), 3) == 3
    assert width_behind((), None) is None


def test_ops_are_shown_as_written() -> None:
    text = (
        "[norm, {conv: 3, filters: x4, bias: true}, {skip: [relu], shortcut: []}, {dropout: 0.5}]"
    )
    ops = read(
        "norm",
        {"conv": 3, "filters": "x4", "bias": True},
        {"skip": ["relu"], "shortcut": []},
        {"dropout": 0.5},
    )
    assert format_ops(ops) == text
