"""Ops of edges and layers as they are declared, layers that start from zeros, outputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cliquegraph.blocks.model import (
    AvgPool,
    Bias,
    Block,
    Conv,
    Gate,
    GroupNorm,
    Layer,
    LocalResponse,
    MaxPool,
    Norm,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Skip,
    Upsample,
)
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.operations import Meaning, Place
from tests.semantics.declared import WORDS, assert_close, chain, meaning_of, norm, normalized

Shapes = dict[str, tuple[int, ...]]
STAGED = replace(WORDS, staged=True)


def affine(name: str, width: int) -> Shapes:
    return {f"{name}.scale": (width,), f"{name}.bias": (width,)}


def grouped(x: Tensor, groups: int, at: dict[str, Tensor], name: str) -> Tensor:
    return F.group_norm(x, groups, at[f"{name}.scale"], at[f"{name}.bias"])


def along_channels(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 1)


def written(meaning: Meaning, stage: int, layer: int) -> Tensor:
    return torch.from_numpy(meaning.values[Place("block1", stage, layer)])


def input_of(meaning: Meaning) -> Tensor:
    return torch.from_numpy(meaning.values[Place("stem")])


# ---- ops in layers and on edges --------------------------------------------------------------


def test_ops_of_a_layer_have_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    ops: Ops = (
        Conv(3, 4, role="v", index=1, bias=True),
        GroupNorm(2, "norm1"),
        LocalResponse(3, 0.1, 0.75),
        Conv(3, None, role="v", index=2, stride=2, depthwise=True, bias=True),
        Bias(),
        MaxPool(3, 1, 1),
        Gate(),
        Upsample(2),
        GroupNorm(4, "norm2"),
        Bias("bias_2"),
        AvgPool(2, 2),
    )
    shapes: Shapes = {
        "block1.v1_1.weight": (4, 4, 3, 3),
        "block1.v1_1.bias": (4,),
        "block1.v1_2.weight": (4, 1, 3, 3),
        "block1.v1_2.bias": (4,),
        "block1.x1.bias": (4,),
        "block1.x1.bias_2": (4,),
        "block1.x1.gate.weight": (1,),
        **affine("block1.x1.norm1", 4),
        **affine("block1.x1.norm2", 4),
    }
    meaning, at = meaning_of(chain(Layer((Read(0),), 4, ops=ops), last=1), shapes, monkeypatch)
    x = F.conv2d(input_of(meaning), at["block1.v1_1.weight"], at["block1.v1_1.bias"], padding=1)
    x = F.local_response_norm(grouped(x, 2, at, "block1.x1.norm1"), 3, 0.1, 0.75)
    kernel, bias = at["block1.v1_2.weight"], at["block1.v1_2.bias"]
    x = F.conv2d(x, kernel, bias, stride=2, padding=1, groups=4)
    x = F.max_pool2d(x + along_channels(at["block1.x1.bias"]), 3, 1, 1)
    x = F.interpolate(x * torch.sigmoid(at["block1.x1.gate.weight"]), scale_factor=2)
    x = grouped(x, 4, at, "block1.x1.norm2") + along_channels(at["block1.x1.bias_2"])
    assert_close(written(meaning, 1, 1).numpy(), F.avg_pool2d(x, 2).numpy())


def test_ops_of_an_edge_have_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group normalization is the edge's own before its kernel too; a gate counts its source."""
    to_first: Ops = (Conv(3, 4, bias=True), GroupNorm(2), Gate())
    to_second: Ops = (GroupNorm(4), Relu(), Bias("bias_1"), Conv(1, 4, index=1), Gate())
    layers = (
        Layer((Read(0, to_first, every_stage=True), Read(2, to_second)), 4),
        Layer((Read(1, to_second),), 4),
    )
    output = Output((2,), 2)
    block = Block(layers, Schedule((1, 2), (2, 2)), output, output, STAGED)
    shapes: Shapes = {"block1.w0_1.weight": (4, 4, 3, 3), "block1.w0_1.bias": (4,)}
    shapes |= {f"block1.x{j}.gate{i}.weight": (1,) for i, j in ((0, 1), (2, 1), (1, 2))}
    for pair in ("1_2", "2_1"):
        shapes |= {f"block1.w{pair}_1.weight": (4, 4, 1, 1), f"block1.w{pair}.bias_1": (4,)}
    for name in ("w0_1.s1", "w0_1.s2", "w1_2.s1", "w1_2.s2", "w2_1.s2"):
        shapes |= affine(f"block1.{name}.norm", 4)
    meaning, at = meaning_of(block, shapes, monkeypatch)

    def first(x: Tensor, stage: int) -> Tensor:
        x = F.conv2d(x, at["block1.w0_1.weight"], at["block1.w0_1.bias"], padding=1)
        x = grouped(x, 2, at, f"block1.w0_1.s{stage}.norm")
        return x * torch.sigmoid(at["block1.x1.gate0.weight"])

    def second(x: Tensor, stage: int, i: int, j: int) -> Tensor:
        x = F.relu(grouped(x, 4, at, f"block1.w{i}_{j}.s{stage}.norm"))
        x = x + along_channels(at[f"block1.w{i}_{j}.bias_1"])
        x = F.conv2d(x, at[f"block1.w{i}_{j}_1.weight"])
        return x * torch.sigmoid(at[f"block1.x{j}.gate{i}.weight"])

    x0 = input_of(meaning)
    x2 = second(first(x0, 1), 1, 1, 2)
    assert_close(written(meaning, 1, 2).numpy(), x2.numpy())
    x2 = second(first(x0, 2) + second(x2, 2, 2, 1), 2, 1, 2)
    assert_close(written(meaning, 2, 2).numpy(), x2.numpy())


def test_a_shortcut_strides_as_pools_of_the_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = (Skip((Conv(3, 6, role="conv"), MaxPool(2, 2))),)
    shapes: Shapes = {
        "block1.x1.conv.weight": (6, 4, 3, 3),
        "block1.x1.shortcut.conv.weight": (6, 4, 1, 1),
        **norm("block1.x1.shortcut.norm", 6),
    }
    meaning, at = meaning_of(chain(Layer((Read(0),), 6, ops=unit), last=1), shapes, monkeypatch)
    x = input_of(meaning)
    y = F.max_pool2d(F.conv2d(x, at["block1.x1.conv.weight"], padding=1), 2)
    x = F.conv2d(x, at["block1.x1.shortcut.conv.weight"], stride=2)
    expected = y + normalized(x, at, "block1.x1.shortcut.norm")
    assert_close(written(meaning, 1, 1).numpy(), expected.numpy())


def test_maps_of_different_sizes_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = Layer((Read(0),), 4), Layer((Read(0), Read(1, (MaxPool(6, 6),))), 4)
    with pytest.raises(VerificationError, match="stage 1 layer 2: combines maps of different"):
        meaning_of(chain(*layers, last=2), {}, monkeypatch)


# ---- layers that start from zeros ------------------------------------------------------------

UNIT: Ops = (Conv(3, 4, role="v"), Norm(), Relu())
DOWN: Ops = (Conv(3, 6, stride=2), Bias())
UP: Ops = (Conv(1, 4), Upsample(2))


def from_zero(order: tuple[int, ...]) -> Block:
    """X0 → X1 ⇄ X2 → X3: X2 is smaller and X3 smaller still."""
    layers = (
        Layer((Read(0, every_stage=True), Read(2, UP)), 4, ops=UNIT),
        Layer((Read(1, DOWN), Read(2), Read(3, (Upsample(2),))), 6, combine="mean", ops=(Bias(),)),
        Layer((Read(2, (MaxPool(2, 2),)), Read(3)), 6, ops=(Relu(), Bias())),
    )
    output = Output((1,), 2)
    schedule = Schedule(order, (3, 3), simultaneous=True, initial="zero")
    return Block(layers, schedule, output, output, STAGED)


FROM_ZERO: Shapes = {
    "block1.w2_1.weight": (4, 6, 1, 1),
    "block1.w1_2.weight": (6, 4, 3, 3),
    "block1.w1_2.bias": (6,),
    "block1.x2.bias": (6,),
    "block1.x3.bias": (6,),
    "block1.v1.weight": (4, 4, 3, 3),
    **norm("block1.x1.s1.norm", 4),
    **norm("block1.x1.s2.norm", 4),
}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_layers_that_read_nothing_start_from_zeros(
    order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    meaning, at = meaning_of(from_zero(order), FROM_ZERO, monkeypatch, size=8)

    def unit(x: Tensor, stage: int) -> Tensor:
        x = F.conv2d(x, at["block1.v1.weight"], padding=1)
        return F.relu(normalized(x, at, f"block1.x1.s{stage}.norm"))

    x0 = input_of(meaning)
    x1 = unit(x0, 1)
    x2 = along_channels(at["block1.x2.bias"]).expand(3, 6, 4, 4)
    x3 = along_channels(at["block1.x3.bias"]).expand(3, 6, 2, 2)
    for j, x in enumerate((x1, x2, x3), start=1):
        assert_close(written(meaning, 1, j).numpy(), x.numpy())
    up = F.interpolate(F.conv2d(x2, at["block1.w2_1.weight"]), scale_factor=2)
    assert_close(written(meaning, 2, 1).numpy(), unit(x0 + up, 2).numpy())
    down = F.conv2d(x1, at["block1.w1_2.weight"], at["block1.w1_2.bias"], stride=2, padding=1)
    mean = (down + x2 + F.interpolate(x3, scale_factor=2)) / 3
    mean = mean + along_channels(at["block1.x2.bias"])
    assert_close(written(meaning, 2, 2).numpy(), mean.numpy())
    assert meaning.reads[Place("block1", 1, 2)] == ""
    assert meaning.reads[Place("block1", 2, 2)] == "X1@1, X2@1, X3@1"


def test_zeros_of_no_known_shape_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = Layer((Read(0),), 4), Layer((Read(3),), 4), Layer((Read(2), Read(3)), 4)
    output = Output((1,), 2)
    schedule = Schedule((1, 2, 3), (3, 3), initial="zero")
    with pytest.raises(VerificationError, match="block1, stage 1 layer 2: reads nothing"):
        meaning_of(Block(layers, schedule, output, output, WORDS), {}, monkeypatch)


# ---- outputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("with_input", [False, True])
def test_an_output_may_be_a_mean(with_input: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = Layer((Read(0, (Bias(),)),), 4), Layer((Read(1, (Relu(),)),), 4)
    output = Output((1, 2), 1, with_input=with_input, combine="mean")
    block = replace(chain(*layers, last=2), feature=output)
    meaning, _ = meaning_of(block, {"block1.w0_1.bias": (4,)}, monkeypatch)
    maps = [input_of(meaning)] * with_input + [written(meaning, 1, j) for j in (1, 2)]
    assert_close(meaning.features[0], torch.stack(maps).mean(0).numpy())
