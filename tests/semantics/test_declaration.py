"""The evaluator of declarations, against the interpreter and against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from cliquegraph import NetworkSpec, interpret, sample_tensors
from cliquegraph.blocks.model import (
    Block,
    Conv,
    DropPath,
    Layer,
    Norm,
    Output,
    Read,
    Relu,
    Schedule,
    Skip,
)
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.declaration import evaluate
from cliquegraph.semantics.operations import Law, Place
from tests.function import images_for
from tests.networks import EVERY_KEY, clique, graph_of, networks
from tests.semantics.declared import (
    WORDS,
    assert_close,
    chain,
    meaning_of,
    norm,
    normalized,
)


def assert_interpreted_alike(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    tensors, images = sample_tensors(graph), images_for(graph)
    written = {
        (str(n.origin.section), n.origin.stage, n.origin.layer): n.output
        for n in graph
        if n.origin.layer is not None
    }
    for training in (False, True):
        result = interpret(graph, tensors, images, training=training)
        meaning = evaluate(spec, tensors, images, training=training)
        assert_close(meaning.logits, result.logits)
        for one, other in zip(meaning.features, result.features, strict=True):
            assert_close(one, other)
        for place, value in written.items():
            assert_close(meaning.values[Place(*place)], result.values[value])
        assert meaning.tensors == tensors.keys()
        assert meaning.running.keys() == (result.running.keys() if training else set())
        for name, running in meaning.running.items():
            assert_close(running, result.running[name])


@pytest.mark.parametrize("name", EVERY_KEY)
def test_every_key_means_what_the_interpreter_computes(name: str) -> None:
    assert_interpreted_alike(EVERY_KEY[name])


@given(networks())
def test_random_networks_mean_what_the_interpreter_computes(spec: NetworkSpec) -> None:
    assert_interpreted_alike(spec)


def test_masks_are_asked_for_by_place() -> None:
    spec = EVERY_KEY["dropout"]
    graph = graph_of(spec)
    tensors, images = sample_tensors(graph), images_for(graph)
    asked = []

    def mask(place: Place, choice: int, shape: tuple[int, ...], law: Law) -> Array:
        asked.append((str(place), choice))
        return np.full(shape, 0.75)

    plain = evaluate(spec, tensors, images, training=True)
    kept = evaluate(spec, tensors, images, training=True, masks=mask)
    assert_close(kept.logits, plain.logits)  # ×0.75, and 1 / (1 - 0.25)
    assert len(asked) == len(set(asked))
    assert {("block1, stage 2 layer 3", 0), ("block2, stage 1 layer 2", 1)} <= {*asked}
    asked.clear()
    evaluate(spec, tensors, images, masks=mask)
    assert not asked


def test_tensors_must_be_there_and_have_their_shape() -> None:
    spec = clique()
    graph = graph_of(spec)
    tensors, images = sample_tensors(graph), images_for(graph)
    kernel = tensors.pop("block1.w1_2.weight")
    with pytest.raises(VerificationError) as caught:
        evaluate(spec, tensors, images)
    said = "block1, stage 1 layer 2: there is no block1.w1_2.weight, which is declared"
    assert str(caught.value) == said
    with pytest.raises(VerificationError, match=r"has the shape \(3, 2, 3, 3\), declared is"):
        evaluate(spec, {**tensors, "block1.w1_2.weight": kernel[:, 1:]}, images)


# ---- blocks that no kind declares yet --------------------------------------------------------


BRANCH = (Conv(3, 6, role="conv1", reduce=True), Norm("norm1"), Relu(), Conv(3, 6, role="conv2"))


@pytest.mark.parametrize("shortcut", ["projection", "pad"])
def test_a_skip_is_a_residual_unit(shortcut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = (Skip(BRANCH, shortcut), Relu())
    block = chain(Layer((Read(0),), 6, ops=unit), Layer((Read(1),), 6, ops=unit), last=2, stride=2)
    shapes: dict[str, tuple[int, ...]] = {
        "block1.x1.conv1.weight": (6, 4, 3, 3),
        "block1.x1.conv2.weight": (6, 6, 3, 3),
        "block1.x2.conv1.weight": (6, 6, 3, 3),
        "block1.x2.conv2.weight": (6, 6, 3, 3),
        **norm("block1.x1.norm1", 6),
        **norm("block1.x2.norm1", 6),
    }
    if shortcut == "projection":
        shapes |= {"block1.x1.shortcut.conv.weight": (6, 4, 1, 1)}
        shapes |= norm("block1.x1.shortcut.norm", 6)
    meaning, at = meaning_of(block, shapes, monkeypatch)
    x = torch.from_numpy(meaning.values[Place("stem")])
    for j in (1, 2):
        stride, prefix = 3 - j, f"block1.x{j}"
        y = F.conv2d(x, at[f"{prefix}.conv1.weight"], stride=stride, padding=1)
        y = F.relu(normalized(y, at, f"{prefix}.norm1"))
        y = F.conv2d(y, at[f"{prefix}.conv2.weight"], padding=1)
        if j == 1 and shortcut == "projection":
            x = F.conv2d(x, at["block1.x1.shortcut.conv.weight"], stride=2)
            x = normalized(x, at, "block1.x1.shortcut.norm")
        elif j == 1:
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, 2))
        x = F.relu(x + y)
        assert_close(meaning.values[Place("block1", 1, j)], x.numpy())


@pytest.mark.parametrize("scale", ["training", "evaluation"])
@pytest.mark.parametrize("lives", [0.0, 1.0])
def test_a_branch_that_is_dropped_moves_no_statistics(
    scale: Any, lives: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = DropPath(0.25, "batch", scale)
    branch = (Conv(3, 4, role="conv"), Norm())
    block = chain(Layer((Read(0),), 4, ops=(Skip(branch, drop=drop),)), last=1)
    shapes = {"block1.x1.conv.weight": (4, 4, 3, 3), **norm("block1.x1.norm", 4)}

    def mask(place: Place, choice: int, shape: tuple[int, ...], law: Law) -> Array:
        assert shape == (1, 1, 1, 1)
        return np.full(shape, lives)

    for training in (False, True):
        meaning, at = meaning_of(block, shapes, monkeypatch, training=training, masks=mask)
        x = torch.from_numpy(meaning.values[Place("stem")])
        y = F.conv2d(x, at["block1.x1.conv.weight"], padding=1)
        y = normalized(y, at, "block1.x1.norm", training)
        factor = (lives if training else 1.0) * {
            (True, "training"): 4 / 3,
            (False, "evaluation"): 3 / 4,
        }.get((training, scale), 1.0)
        assert_close(meaning.values[Place("block1", 1, 1)], (x + factor * y).numpy())
        moved = meaning.running.get("block1.x1.norm.mean")
        if training:
            assert moved is not None
            assert np.allclose(moved, at["block1.x1.norm.mean"].numpy()) == (lives == 0.0)


def test_a_layer_may_read_itself_and_x0_in_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = (Read(0, (Conv(3, 4),), every_stage=True), Read(1, (Conv(3, 4),)))
    output = Output((1,), 3)
    schedule = Schedule((1,), (1, 1, 1))
    block = Block((Layer(edges, 4, ops=(Relu(),)),), schedule, output, output, WORDS)
    shapes = {f"block1.w{i}_1.weight": (4, 4, 3, 3) for i in (0, 1)}
    meaning, at = meaning_of(block, shapes, monkeypatch)
    x0 = torch.from_numpy(meaning.values[Place("stem")])
    x = F.relu(F.conv2d(x0, at["block1.w0_1.weight"], padding=1))
    for stage in (1, 2, 3):
        if stage > 1:
            y = F.conv2d(x0, at["block1.w0_1.weight"], padding=1)
            x = F.relu(y + F.conv2d(x, at["block1.w1_1.weight"], padding=1))
        assert_close(meaning.values[Place("block1", stage, 1)], x.numpy())
    assert meaning.reads[Place("block1", 3, 1)] == "X0, X1@2"


def test_values_are_averaged_where_they_join(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Layer((Read(0), Read(1)), 4, combine="mean")
    kernel = (Conv(1, 4, role="v"), Relu(), Conv(3, 4, role="v", index=2))
    block = chain(Layer((Read(0),), 4, ops=kernel), halves, last=2)
    shapes = {"block1.v1.weight": (4, 4, 1, 1), "block1.v1_2.weight": (4, 4, 3, 3)}
    meaning, at = meaning_of(block, shapes, monkeypatch)
    x0 = torch.from_numpy(meaning.values[Place("stem")])
    x1 = F.relu(F.conv2d(x0, at["block1.v1.weight"]))
    x1 = F.conv2d(x1, at["block1.v1_2.weight"], padding=1)
    assert_close(meaning.values[Place("block1", 1, 2)], ((x0 + x1) / 2).numpy())


def test_from_zero_stage_1_reads_x0_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = (Conv(1, 4),)
    layers = (
        Layer((Read(0, edge), Read(2, edge)), 4),
        Layer((Read(0, edge), Read(1, edge)), 4),
    )
    output = Output((1, 2), 2, with_input=True)
    schedule = Schedule((2, 1), (2, 1), simultaneous=True, initial="zero")
    block = Block(layers, schedule, output, output, WORDS)
    pairs = ("0_1", "0_2", "1_2", "2_1")
    shapes = {f"block1.w{pair}.weight": (4, 4, 1, 1) for pair in pairs[:2] + pairs[2:][:1]}
    meaning, _ = meaning_of(block, shapes, monkeypatch)
    assert [*meaning.reads.values()] == ["X0", "X0", "X1@1"]
    assert meaning.features[0].shape[1] == 12


def test_a_layer_that_reads_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    block = chain(Layer((Read(2),), 4), Layer((Read(0),), 4), last=2)
    with pytest.raises(VerificationError, match="block1, stage 1 layer 1: reads nothing"):
        meaning_of(block, {}, monkeypatch)
