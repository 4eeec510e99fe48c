"""Training generated Flax models."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.training.logs import read_table
from cliquegraph.training.session import Session
from cliquegraph.training.train import Silent, train
from tests.trainings import SMALL, SPEC, small_job

ROOT = SPEC.parent.parent


class Stopping(Silent):
    """Ends a training: asks for it at one step, breaks it at another."""

    def __init__(self, asks: int = 0, breaks: int = 0) -> None:
        self.asks, self.breaks = asks, breaks

    def step(self, session: Session) -> None:
        if session.done == self.asks:
            signal.raise_signal(signal.SIGINT)
        if session.done == self.breaks:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of six steps, in one process on one device."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(small_job("flax", epochs=2, devices=1), folder)
    return folder


def launched(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    """The same run by the command line, in a process of its own."""
    command = [sys.executable, "-m", "cliquegraph", "train", str(SPEC), "--data", "digits"]
    command += ["--subset", "192", "--batch-size", "32", "--epochs", "2", "--precision", "float64"]
    command += ["--log-every", "1", "--backend", "flax", "--out", str(folder)]
    command += [word for change in SMALL for word in ("--set", change)]
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def both(folder: Path, *options: str) -> None:
    """The same run in two processes, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1] - 1  # JAX takes the one above torchrun's
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    started = [launched(folder, *options, RANK=rank, **place, **size) for rank in "01"]
    for process in started:
        wait(process)


def assert_alike(one: Path, other: Path) -> None:
    """The same weights and the same measurements, but for rounding."""
    for name in ("best", "last"):
        tensors, others = (load_file(run / f"{name}.safetensors") for run in (one, other))
        for tensor, array in tensors.items():
            assert array.dtype == np.float64
            np.testing.assert_allclose(others[tensor], array, rtol=0, atol=1e-10, err_msg=tensor)
    for name in ("steps.csv", "metrics.csv"):
        assert measured(other / name) == pytest.approx(measured(one / name), abs=1e-10)


def measured(table: Path) -> list[float]:
    rows = read_table(table)
    assert rows
    return [float(value) for row in rows for key, value in row.items() if key != "seconds"]


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(plain: Path, tmp_path: Path) -> None:
    job = small_job("flax", epochs=2, devices=1, checkpoint_every=4)
    folder = tmp_path / "run"
    assert train(job, folder, display=Stopping(asks=2)).interrupted
    with pytest.raises(KeyboardInterrupt):
        train(job, folder, resume=True, display=Stopping(breaks=11))
    session = train(job, folder, resume=True)
    assert session.restored == folder / "checkpoints" / "step-00000008"

    for name in ("best.safetensors", "last.safetensors"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()
    for name in ("steps.csv", "metrics.csv"):
        assert measured(folder / name) == measured(plain / name)


def test_dropout_draws_by_all_bits_of_the_session_s_noise(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Session.noise
    monkeypatch.setattr(Session, "noise", lambda *place: noise(*place) ^ 1 << 40)
    train(small_job("flax", devices=1), tmp_path / "run", display=Stopping(asks=1))
    (loss, *_), (other, *_) = (read_table(run / "steps.csv") for run in (plain, tmp_path / "run"))
    assert 1e-3 < abs(float(loss["loss"]) - float(other["loss"])) < 1


def test_two_devices_do_what_one_does(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # Optimized, as users train; the tests do without (conftest.py).
    wait(launched(folder, "--devices", "2", JAX_DISABLE_MOST_OPTIMIZATIONS="0", XLA_FLAGS=""))
    assert_alike(plain, folder)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    # In parts, that a device's share is cut into: in a process of two devices the same images.
    one = launched(tmp_path / "one", "--devices", "2", "--accumulate", "2")
    both(tmp_path / "two", "--accumulate", "2")
    wait(one)
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "Flax does not train in float16: use --precision bfloat16"),
        ({"devices": 64}, "64 devices were requested, JAX has started with"),
        ({"accumulate": 3}, r"can't be divided by 1 devices × 3 .* use --batch-size 33"),
        ({"nodes": 2}, "2 nodes take a process on each of them"),
    ],
)
def test_what_cannot_be_had_is_said_before_a_folder_is_made(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    jax.devices()  # started: it can't be told any more to have 64
    job = small_job("flax", **{"devices": 1, **options})
    with pytest.raises(UsageError, match=message):
        train(job, tmp_path / "run")
    assert not (tmp_path / "run").exists()
