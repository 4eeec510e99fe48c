"""Which -O level and memory format engines choose, and by which figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest
import torch

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.engines import find_engine
from cliquegraph.training.train import train
from cliquegraph_flax import choice as flax_choice
from cliquegraph_flax.programs import KEEP_BARRIERS
from cliquegraph_torch.choice import CPU_LEVEL, STEPS
from tests.trainings import ROOT, job, small_job

pytest.importorskip("pytorch_lightning")


@pytest.fixture
def ratios() -> dict[tuple[int, bool], list[float]]:
    """Steps by level and channels_last, of -O0's in NCHW, a network each."""
    path = ROOT / "benchmarks" / "results" / "memory_format_torch_cpu.json"
    found: dict[tuple[int, bool], list[float]] = {}
    for result in json.loads(path.read_text(encoding="utf-8"))["results"]:
        for name, row in result["variants"].items():
            level, layout = name.removeprefix("O").split()
            key = int(level), layout == "channels_last"
            found.setdefault(key, []).append(row["ratio"]["median"])
    return found


def test_what_pytorch_says_of_a_processor_was_measured(
    ratios: dict[tuple[int, bool], list[float]],
) -> None:
    measured = {
        key: f"{min(each):.2f} to {max(each):.2f}"
        for key, each in ratios.items()
        if key != (0, False)  # what the others are ratios to
    }
    assert measured == STEPS


def test_pytorch_chooses_the_fastest_on_a_processor(
    ratios: dict[tuple[int, bool], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    mean = {key: math.prod(each) ** (1 / len(each)) for key, each in ratios.items()}
    choice = find_engine("torch").choose(job("torch", any_level=True))
    assert choice.channels_last is True and choice.cudnn_benchmark is None
    # Within what the measurement can tell apart.
    assert mean[choice.level, True] < 1.05 * min(mean.values())
    assert f"measured {STEPS[CPU_LEVEL, True]} of -O0's step in NCHW" in choice.why
    nchw = find_engine("torch").choose(job("torch", any_level=True, channels_last=False))
    assert mean[nchw.level, False] < 1.05 * min(mean[level, False] for level in (0, 1, 2))
    assert f"measured {STEPS[CPU_LEVEL, False]} of" in nchw.why
    for level in (0, 2):
        assert (
            f"measured {STEPS[level, True]} of"
            in find_engine("torch").choose(job("torch", level=level)).why
        )


def test_pytorch_says_that_its_choice_on_cuda_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    choice = find_engine("torch").choose(job("torch", any_level=True))
    assert (choice.level, choice.channels_last, choice.cudnn_benchmark) == (0, True, True)
    assert "no level has been measured there" in choice.why
    assert "measured" not in find_engine("torch").choose(job("torch", level=1)).why


def test_synchronized_normalization_takes_level_0(tmp_path: Path) -> None:
    choice = find_engine("torch").choose(job("torch", any_level=True, sync_batchnorm=True))
    assert choice.level == 0 and choice.binding
    with pytest.raises(UsageError, match="trains a model of -O0 in PyTorch: leave out -O"):
        train(job("torch", level=2, sync_batchnorm=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_flax_recomputes_on_a_processor_and_keeps_the_barriers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = find_engine("flax").choose(small_job("flax", any_level=True, devices=1))
    assert (choice.level, choice.channels_last, choice.cudnn_benchmark) == (2, None, None)
    assert "0.62 to 0.80 of -O0's step, 0.3 of its memory" in choice.why
    compile_ = jax.jit
    options: list[Any] = []

    def jit(function: Any, **given: Any) -> Any:
        options.append(given.get("compiler_options"))
        return compile_(function, **given)

    monkeypatch.setattr(jax, "jit", jit)
    train(small_job("flax", any_level=True, devices=1, subset=32), tmp_path / "chosen")
    assert json.loads((tmp_path / "chosen" / "run.json").read_text())["level"] == 2
    assert KEEP_BARRIERS in options
    options.clear()
    train(small_job("flax", level=0, devices=1, subset=32), tmp_path / "literal")
    assert options and not any(options)


def test_flax_chooses_the_literal_model_where_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flax_choice, "open_devices", lambda job: SimpleNamespace(platform="gpu"))
    choice = find_engine("flax").choose(small_job("flax", any_level=True))
    assert choice.level == 0 and "no level has been measured there" in choice.why


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("channels_last", "Flax's maps are channels-last already"),
        ("cudnn_benchmark", "XLA chooses cuDNN's algorithms itself"),
    ],
)
def test_flax_refuses_what_only_pytorch_has(
    tmp_path: Path, option: str, value: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(small_job("flax", devices=1, **{option: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
