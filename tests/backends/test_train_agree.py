"""Both engines train a network to the same weights, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from cliquegraph.plugins.engines import find_engine
from cliquegraph.training.logs import read_table
from cliquegraph.training.train import train
from cliquegraph.weights.initial import initial_tensors
from tests.trainings import small_job

CURVES = ("blocks=[{layers: 2, filters: 4}, {layers: 2, filters: 4}]", "expect={}")
"""Two blocks, and between them a transition with attention; nothing is dropped."""


def trained(folder: Path, **options: Any) -> dict[str, Path]:
    found = {backend: folder / backend for backend in ("torch", "flax")}
    for backend, run in found.items():
        train(small_job(backend, overrides=CURVES, **options), run)
    return found


def column(run: Path, name: str, table: str = "steps.csv") -> list[float]:
    return [float(row[name]) for row in read_table(run / table)]


def assert_agree(runs: dict[str, Path]) -> None:
    tensors = {backend: load_file(run / "last.safetensors") for backend, run in runs.items()}
    assert tensors["torch"].keys() == tensors["flax"].keys()
    for name, array in tensors["torch"].items():
        np.testing.assert_allclose(tensors["flax"][name], array, rtol=0, atol=1e-8, err_msg=name)
    for table, name in (("steps.csv", "loss"), ("metrics.csv", "test_loss")):
        found = {backend: column(run, name, table) for backend, run in runs.items()}
        assert found["flax"] == pytest.approx(found["torch"], rel=0, abs=1e-8)


def test_losses_of_fifty_steps_agree(tmp_path: Path) -> None:
    runs = trained(tmp_path, subset=800, epochs=2)
    losses = column(runs["flax"], "loss")
    assert len(losses) == 50
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])  # it does learn
    assert sorted(set(column(runs["flax"], "learning_rate"))) == pytest.approx([0.01, 0.1])
    assert_agree(runs)


def test_accumulated_parts_agree(tmp_path: Path) -> None:
    runs = trained(tmp_path, accumulate=2)
    assert_agree(runs)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float64", 1e-12), ("float32", 1e-5), ("bfloat16", 0.1)]
)
def test_logits_agree(precision: Any, tolerance: float) -> None:
    job = small_job("flax", overrides=CURVES)
    tensors = initial_tensors(job.compilation.lowered, 0)
    images = next(job.data.evaluation("test", 32).epoch(0)).images
    torch, flax = (
        find_engine(backend).classifier(job.compilation, tensors, precision)(images)
        for backend in ("torch", "flax")
    )
    assert flax.shape == (32, 10)
    assert flax == pytest.approx(torch, rel=0, abs=tolerance)
