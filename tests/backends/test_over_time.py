"""Readouts over time in both backends: the code, and the training of a weight for each stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import cliquegraph
from cliquegraph.analysis.cost import macs_by_stage
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.engines import find_engine
from cliquegraph.training.train import evaluate, evaluate_stages, train
from cliquegraph.weights.initial import initial_tensors
from cliquegraph_torch.loss import mean_cross_entropy
from tests.backends.test_train_agree import assert_agree
from tests.networks import EVERY_KEY, graph_of
from tests.trainings import small_job

BLOCK = (
    "blocks=[{kind: graph, layers: 2, filters: 4, edges: chain, self: [{conv: 3}], stages: 3, "
    "input: {to: first, stages: all, edge: [{conv: 3}]}, edge: [{conv: 3}], layer: [norm, relu], "
    "norms: shared, output: {layers: last}}]"
)
OVER_TIME = (BLOCK, "readout={blocks: last, stages: all, norms: shared}")
LAST = (BLOCK, "readout={blocks: last}")


def job(
    backend: str, overrides: tuple[str, ...] = OVER_TIME, weights: str = "", **options: Any
) -> Any:
    more = (f"training.stage_weights={weights}",) if weights else ()
    return small_job(backend, overrides=(*overrides, *more, "expect={}"), **options)


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("name", ["over_time", "over_time_per_stage"])
def test_one_classifier_reads_every_stage(name: str, backend: str) -> None:
    source = cliquegraph.compile(EVERY_KEY[name], backend)
    assert source.count("self.classifier = ") == 1
    assert source.count("self.classifier(pooled") == 3
    assert "Return the logits of images, (3 stages, batch, num_classes)." in source


def test_stages_share_all_but_their_normalizations() -> None:
    shared, own = (
        cliquegraph.compile(EVERY_KEY[name], "torch")
        for name in ("over_time", "over_time_per_stage")
    )
    assert shared.count("self.readout1 = Readout()") == 1
    assert shared.count("self.readout1(feature1_") == 3
    assert own.count("self.readout2_compress_conv = ") == 1
    for stage in (1, 2, 3):
        call = f"self.readout2_{stage}(feature2_{stage}, compress_conv=self.readout2_compress_conv)"
        assert call in own


def test_the_loss_is_the_mean_over_stages() -> None:
    logits, labels = torch.randn(3, 4, 5, dtype=torch.float64), torch.tensor([0, 1, 4, 4])
    each = [torch.nn.functional.cross_entropy(stage, labels) for stage in logits]
    assert mean_cross_entropy(logits, labels).item() == pytest.approx(sum(each).item() / 3)
    assert mean_cross_entropy(logits, labels, (0, 0.25, 0.75)).item() == pytest.approx(
        (each[1] + 3 * each[2]).item() / 4
    )


@pytest.mark.parametrize("weights", ["", "[1, 0, 3]"])
def test_both_engines_train_it_alike(weights: str, tmp_path: Path) -> None:
    runs = {backend: tmp_path / backend for backend in ("torch", "flax")}
    for backend, folder in runs.items():
        train(job(backend, weights=weights), folder)
    assert_agree(runs)


def test_the_last_stage_alone_trains_as_a_readout_of_it_alone(tmp_path: Path) -> None:
    # But for the statistics of the readout's normalization, which every stage moves.
    train(job("torch", weights="[0, 0, 2]"), tmp_path / "all")
    train(job("torch", LAST), tmp_path / "last")
    one, other = (load_file(tmp_path / run / "last.safetensors") for run in ("all", "last"))
    for name in one.keys() - {"readout1.norm.mean", "readout1.norm.var"}:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(("overrides", "found"), [(OVER_TIME, "3 stages"), (LAST, "one stage")])
def test_there_is_a_weight_for_each_stage(overrides: tuple[str, ...], found: str) -> None:
    whole = job("torch", overrides)
    with pytest.raises(UsageError, match=f"2 stage weights, but quickstart reads {found}"):
        replace(whole, recipe=replace(whole.recipe, stage_weights=(1.0, 2.0)))


def test_weights_are_not_negative() -> None:
    recipe = job("torch").recipe
    assert replace(recipe, stage_weights=(0.0, 1.0, 3.0)).stage_shares == (0, 0.25, 0.75)
    for weights in ((0.0, 0.0), (1.0, -1.0), (float("nan"),)):
        with pytest.raises(UsageError, match="stage weights must be nonnegative and not all 0"):
            replace(recipe, stage_weights=weights)


def test_each_stage_is_evaluated_and_more_than_were_trained() -> None:
    three = job("torch")
    eight = job("torch", (BLOCK.replace("stages: 3", "stages: 8"), *OVER_TIME[1:]))
    tensors = initial_tensors(three.compilation.lowered, 0)
    batches = three.data.evaluation("test", 90)
    by_stage = {
        len(each.compilation.stages): evaluate_stages(
            each.compilation, "torch", tensors, batches, "float64"
        )
        for each in (three, eight)
    }
    assert [len(scores) for scores in by_stage.values()] == [3, 8]
    for one, other in zip(by_stage[3], by_stage[8], strict=False):
        assert one.totals.mean_loss == pytest.approx(other.totals.mean_loss, rel=1e-12)
    last = evaluate(three.compilation, "torch", tensors, batches, "float64")
    assert last.totals == by_stage[3][-1].totals


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_logits_of_every_stage_agree(precision: Any) -> None:
    over_time = job("flax")
    tensors = initial_tensors(over_time.compilation.lowered, 0)
    images = next(over_time.data.evaluation("test", 32).epoch(0)).images
    one, other = (
        find_engine(backend).classifier(over_time.compilation, tensors, precision)(images)
        for backend in ("torch", "flax")
    )
    assert one.shape == other.shape == (3, 32, 10)
    assert other == pytest.approx(one, rel=0, abs=1e-5)


def test_macs_of_a_stage_are_those_up_to_it() -> None:
    # Stem 4×2×9, X0→X1 3×4×9, X1→X1, X1→X2 and X2→X2 3×3×9 on 8×8 pixels; the classifier 3×5.
    stem, entry, inner, head = 64 * 72, 64 * 108, 64 * 81, 15
    first = stem + entry + inner + head
    again = entry + 3 * inner
    graph = graph_of(EVERY_KEY["over_time"])
    assert macs_by_stage(graph) == {1: first, 2: first + again, 3: first + 2 * again}
    assert macs_by_stage(graph_of(EVERY_KEY["defaults"])) == {}
