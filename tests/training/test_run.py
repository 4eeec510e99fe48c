"""What is read again of a run's folder, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cliquegraph.data import Statistics, Treatment
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.draw.curves import draw_curves
from cliquegraph.training.job import Source
from cliquegraph.training.run import EPOCHS, Run

WRITTEN: dict[str, Any] = {
    "recipe": {"name": "cifar", "epochs": 3, "normalisation": "unit", "augmentation": "none"},
    "data": {"reference": "digits", "validation": 0.1, "subset": None},
    "statistics": {"mean": [0.0, 0.5], "std": [1.0, 0.25]},
    "classes": ["cat", "dog"],
    "seed": 3,
    "command": ["cliquegraph", "train"],
}


def run_of(folder: Path, text: str) -> Run:
    (folder / "run.json").write_text(text)
    return Run(folder)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    facts = run_of(tmp_path, json.dumps(WRITTEN)).facts
    assert facts.recipe == Treatment("unit", "none")
    assert facts.data == Source("digits", 0.1, None)
    assert facts.statistics == Statistics((0.0, 0.5), (1.0, 0.25))
    assert (facts.classes, facts.seed) == (("cat", "dog"), 3)
    # Runs from before these could be chosen do not name them.
    assert (facts.level, facts.channels_last, facts.cudnn_benchmark) == (None, False, None)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"seed": 3.7}, "seed"),
        ({"seed": "3"}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": float("inf")}, "seed"),
        ({"classes": "ab"}, "classes"),
        ({"classes": [1, 2]}, r"classes\.0"),
        ({"data": {**WRITTEN["data"], "validation": "abc"}}, r"data\.validation"),
        ({"data": {**WRITTEN["data"], "validation": 1.0}}, r"data\.validation"),
        ({"data": {**WRITTEN["data"], "subset": True}}, r"data\.subset"),
        ({"data": {**WRITTEN["data"], "subset": 2.5}}, r"data\.subset"),
        ({"data": {**WRITTEN["data"], "subset": 0}}, r"data\.subset"),
        ({"statistics": {"mean": [10**400], "std": [1]}}, r"statistics\.mean\.0"),
        ({"statistics": {"mean": [float("nan")], "std": [1]}}, r"statistics\.mean\.0"),
        ({"statistics": {"mean": [0.5], "std": [-1.0]}}, r"statistics\.std\.0"),
        ({"statistics": {"mean": [0.5], "std": [0.0]}}, r"statistics\.std\.0"),
        ({"statistics": {"mean": [0.5], "std": [1e-308]}}, r"statistics\.std\.0"),
        ({"recipe": {**WRITTEN["recipe"], "normalisation": None}}, r"recipe\.normalisation"),
        ({"recipe": {**WRITTEN["recipe"], "augmentation": "x"}}, r"recipe\.augmentation"),
        ({"recipe": 5}, "recipe"),
        ({"level": "1"}, "level"),
        ({"level": -1}, "level"),
        ({"channels_last": 1}, "channels_last"),
        ({"cudnn_benchmark": "yes"}, "cudnn_benchmark"),
    ],
    ids=str,
)
def test_what_no_run_writes_is_refused_by_its_name(
    tmp_path: Path, change: dict[str, Any], where: str
) -> None:
    run = run_of(tmp_path, json.dumps({**WRITTEN, **change}))
    with pytest.raises(UsageError, match=rf"run\.json was not written by a run: {where}: "):
        _ = run.facts


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"a":' * 100_000], ids=range(5))
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"run\.json was not written by a run"):
        _ = run_of(tmp_path, text).facts


def test_a_folder_without_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a run: it has no run\.json"):
        _ = Run(tmp_path).facts


@pytest.mark.parametrize("losses", [(0.5, 0.25), (0.0, -1.0)], ids=["positive", "not positive"])
def test_the_name_of_a_folder_is_text_in_a_picture(
    tmp_path: Path, losses: tuple[float, float]
) -> None:
    folder = tmp_path / "$\\frac{$\u202e<b>"
    folder.mkdir()
    rows = "".join(f"{epoch},{loss},0.5\n" for epoch, loss in enumerate(losses))
    (folder / EPOCHS).write_text(f"epoch,train_loss,train_top1\n{rows}")
    for suffix in ("svg", "html"):
        drawn = draw_curves([Run(folder).curves], suffix).decode()
        assert "\u202e" not in drawn
        assert "<b>" not in drawn
