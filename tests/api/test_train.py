"""``cliquegraph.train`` does what the command does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import cliquegraph
from cliquegraph import cli
from cliquegraph.diagnostics.errors import UsageError

SPEC: dict[str, Any] = {
    "name": "tiny",
    "input": {"channels": 1, "height": 8, "width": 8},
    "stem": {"filters": 4},
    "blocks": [{"layers": 2, "filters": 4}],
    "classifier": {"classes": 10},
    "training": "cifar",
}


def test_a_run_is_written_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options: dict[str, Any] = {"epochs": 2, "batch_size": 32, "out": out, "backend": "flax"}
    run = cliquegraph.train(SPEC, "synthetic:64", **options)
    assert run.folder == out
    assert not run.interrupted
    assert [row["epoch"] for row in run.metrics] == [0, 1]
    assert repr(run).startswith(f"<TrainedRun {out}: 2 epochs; train_top1 ")
    assert capsys.readouterr().out.count("epoch") == 2
    assert cliquegraph.read_weights(SPEC, run.best).keys()
    assert run.last.is_file()
    again = cliquegraph.train(SPEC, "synthetic:64", **options, resume=True, progress=False)
    assert again.metrics == run.metrics
    assert not capsys.readouterr().out
    with pytest.raises(UsageError, match="holds a run"):
        cliquegraph.train(SPEC, "synthetic:64", **options)


def test_options_and_defaults_are_those_of_the_command() -> None:
    (command,) = (c.callback for c in cli.app.registered_commands if c.name == "train")
    assert command is not None
    renamed = {"spec": "network", "normalisation": "normalization"}
    not_here = {"plot", "overrides"}
    theirs = {
        renamed.get(name, name): each.default
        for name, each in inspect.signature(command).parameters.items()
        if name not in not_here
    }
    mine = {
        name: each.default
        for name, each in inspect.signature(cliquegraph.train).parameters.items()
        if name != "progress"
    }
    theirs |= {"data": mine["data"], "freeze": ()}  # of the command: for --plot alone; a list
    assert mine == theirs


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("digit", {}, "there is no data set 'digit'; choose from cifar10"),
        (
            None,
            {},
            "expected the name of a data set, such as 'digits' or 'folder:PATH', found None",
        ),
        (
            "synthetic:64",
            {"precision": "fp16"},
            "there is no precision 'fp16'; choose from float64",
        ),
        ("synthetic:64", {"level": 5}, "there is no level -O5"),
        ("synthetic:64", {"recipe": "adam"}, "there is no recipe 'adam'; choose from cifar"),
    ],
)
def test_wrong_options(data: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        cliquegraph.train(SPEC, data, out=tmp_path / "run", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()
