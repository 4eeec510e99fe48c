"""Training from existing weights, with parts that stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cliquegraph
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.training.pretrained import frozen_parts, pretrained
from cliquegraph.training.train import train
from tests.trainings import SPEC, command, run, small_job, weights

FROZEN = ("stem", "block1")


def file_for(path: Path, *overrides: str) -> Path:
    network = cliquegraph.load(SPEC, ["blocks=[{layers: 2, filters: 4}]", *overrides, "expect={}"])
    graph = cliquegraph.lower(cliquegraph.unroll(network))
    cliquegraph.write_weights(network, cliquegraph.sample_tensors(graph), path)
    return path


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_frozen_parts_stay(tmp_path: Path, backend: str) -> None:
    job = small_job(backend, any_level=True, freeze=FROZEN)
    network = job.compilation.network
    initial, line = pretrained(network, file_for(tmp_path / "w"), new_head=True)
    assert line.endswith("with a new classifier of 10 classes (the file has 10)")
    session = train(replace(job, initial=initial), tmp_path / "run")
    assert session.job.compilation.level == 0
    before, after = session.initial(), weights(tmp_path / "run")
    for name, array in after.items():
        loaded = name in initial.tensors
        assert loaded == (not name.startswith("classifier"))
        same = np.array_equal(array, before[name])
        assert same == name.startswith(FROZEN), name
    with pytest.raises(UsageError, match=r"freeze was \['block1', 'stem'\], is now \[\]"):
        train(replace(job, initial=initial, freeze=()), tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match=r"init was '[0-9a-f]{64}', is now None"):
        train(job, tmp_path / "run", resume=True)


def test_both_engines_fine_tune_alike(tmp_path: Path) -> None:
    for backend in ("torch", "flax"):
        job = small_job(backend, overrides=("blocks=[{layers: 2, filters: 4}]",), any_level=True)
        initial, _ = pretrained(job.compilation.network, file_for(tmp_path / "w"))
        train(replace(job, initial=initial, freeze=FROZEN), tmp_path / backend)
    one, other = weights(tmp_path / "torch"), weights(tmp_path / "flax")
    for name, array in one.items():
        assert array == pytest.approx(other[name], rel=1e-8, abs=1e-10), name


def test_images_of_other_channels_and_classes_are_fitted(tmp_path: Path) -> None:
    file = file_for(tmp_path / "w", "input.channels=3", "classifier.classes=4")
    network = small_job("torch").compilation.network  # one channel, ten classes, dropout
    initial, line = pretrained(network, file)
    assert "new classifier of 10 classes (the file has 4)" in line
    assert line.endswith("with the first kernel fitted from 3 channels to 1")
    assert initial.tensors["stem.conv.weight"].shape[1] == 1


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_levels_that_share_statistics_can_not_freeze(tmp_path: Path, backend: str) -> None:
    with pytest.raises(UsageError, match=r"--freeze trains a model of -O0.*: leave out -O 1"):
        train(small_job(backend, level=1, freeze=("stem",)), tmp_path / "run")


def test_parts_are_named() -> None:
    compilation = small_job("torch").compilation
    assert frozen_parts(compilation, ["backbone"]) == compilation.parts[:-1]
    with pytest.raises(UsageError, match=r"no part 'classifer' to freeze; did you mean 'classifie"):
        frozen_parts(compilation, ["classifer"])
    with pytest.raises(UsageError, match="no part 'block2' to freeze; choose from stem, block1"):
        small_job("torch", freeze=("block2",))
    with pytest.raises(UsageError, match="every part is frozen"):
        small_job("torch", freeze=("stem", "block1", "readout1", "classifier"))


def test_the_command_line_fine_tunes(tmp_path: Path) -> None:
    file = file_for(tmp_path / "w", "classifier.classes=4")
    shared = (
        "--set", "blocks=[{layers: 2, filters: 4}]", "--set", "expect={}",
        "--data", "digits", "--subset", "64", "--epochs", "1", "--batch-size", "32",
    )  # fmt: skip
    ran = run(
        command(
            "train", SPEC, *shared, "--init", file, "--freeze", "backbone", "--out", tmp_path / "r"
        )
    )
    assert ran.returncode == 0, ran.stderr
    assert "with a new classifier of 10 classes (the file has 4)" in ran.stdout
    assert "-O0" in ran.stdout
    ran = run(command("train", SPEC, *shared, "--init", file, "--freeze", "classifer"))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "did you mean 'classifier'?" in ran.stderr
    ran = run(command("train", SPEC, *shared, "--new-head"))
    assert (ran.returncode, ran.stderr[:5]) == (2, "error")
    assert "--new-head is for --init" in ran.stderr
