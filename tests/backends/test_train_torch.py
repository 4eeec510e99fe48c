"""Training in PyTorch: steps, resumption, processes, precision, errors."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.emit.execute import load_source
from cliquegraph.training.run import Run
from cliquegraph.training.train import train
from cliquegraph.weights import load_weights, model_weights
from cliquegraph.weights.initial import initial_tensors
from tests.trainings import (
    DROPOUT,
    ROOT,
    SPEC,
    Stopping,
    command,
    distance,
    environment,
    job,
    long_job,
    losses,
    measured,
    run,
    wait_for_row,
    weights,
)

pytest.importorskip("pytorch_lightning")

pytestmark = [
    # Lightning's own: of PyTorch's pytree registration and of loaders without workers.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_is_the_papers_sgd_written_by_hand(tmp_path: Path, accumulate: int) -> None:
    # I+II: the last stage of the last block is read by nothing, and decays all the same.
    asked = job(
        "torch",
        "blocks.*.feature=1",
        precision="float64",
        accumulate=accumulate,
        log_every=1,
    )
    train(asked, tmp_path / "run")
    network = asked.compilation.network
    source = (tmp_path / "run" / "quickstart.py").read_text()
    model = load_source(source, "by_hand").Quickstart().double()
    load_weights(model, network, initial_tensors(asked.compilation.lowered, 0))
    momenta = [torch.zeros_like(parameter) for parameter in model.parameters()]
    batches = asked.data.training(32)
    seen = []
    for epoch, rate in enumerate((0.1, 0.01)):
        for batch in batches.epoch(epoch):
            model.zero_grad()
            images = torch.from_numpy(batch.images).double().chunk(accumulate)
            labels = torch.from_numpy(batch.labels).chunk(accumulate)
            parts = [
                cross_entropy(model(x), y) / accumulate for x, y in zip(images, labels, strict=True)
            ]
            for part in parts:
                part.backward()
            seen.append(sum(part.item() for part in parts))
            with torch.no_grad():
                for parameter, momentum in zip(model.parameters(), momenta, strict=True):
                    gradient = 1e-4 * parameter
                    if parameter.grad is not None:
                        gradient += parameter.grad
                    momentum.mul_(0.9).add_(gradient)
                    parameter -= rate * (gradient + 0.9 * momentum)
    assert losses(tmp_path / "run") == pytest.approx(seen, abs=1e-11)
    held = model_weights(model, network)
    for name, array in weights(tmp_path / "run").items():
        assert np.abs(array - held[name]).max() < 1e-11, name


KILLED = """
import os, sys
from pathlib import Path
from cliquegraph.plugins.engines import find_engine
from cliquegraph.training.train import train
from tests.trainings import long_job

find_engine("torch")  # imported once; every trial is a fork
folder = Path(sys.argv[1])
while True:
    line = sys.stdin.readline()
    if not line:
        break
    child = os.fork()
    if child == 0:
        train(long_job("torch"), folder, resume=True)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


def test_killed_ten_times_it_ends_as_if_never(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train(long_job("torch"), whole)
    words = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    pipe: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    draw = random.Random(7)  # noqa: S311  # moments, not secrets
    killed, longest = 0, 1.5
    with subprocess.Popen(words, cwd=ROOT, env=environment(), **pipe) as parent:
        for _ in range(30):
            parent.stdin.write("go\n")
            parent.stdin.flush()
            child, began = int(parent.stdout.readline()), time.monotonic()
            if killed < 10:
                time.sleep(draw.uniform(0.02, longest))
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(child, signal.SIGKILL)
            status = int(parent.stdout.readline())
            if os.WIFSIGNALED(status):
                killed += 1
            elif killed < 10:
                assert status == 0
                # It ended before it was killed: from the beginning, with less time.
                longest = (time.monotonic() - began) / 2
                shutil.rmtree(tmp_path / "killed")
            else:
                break
        parent.stdin.close()
    assert killed == 10
    assert os.waitstatus_to_exitcode(status) == 0
    assert distance(whole, tmp_path / "killed") == 0.0
    assert measured(whole) == measured(tmp_path / "killed")
    assert losses(whole) == losses(tmp_path / "killed")
    assert not list((tmp_path / "killed" / "checkpoints").glob("*.tmp"))


def test_stopped_and_resumed_it_is_the_same_and_another_seed_is_not(tmp_path: Path) -> None:
    whole, again, other = tmp_path / "whole", tmp_path / "again", tmp_path / "other"
    asked = job("torch", DROPOUT, log_every=1)
    train(asked, whole)
    session = train(asked, again, display=Stopping(2))
    assert session.interrupted and (session.epoch, session.step) == (0, 3)
    display = Stopping(0)
    assert train(asked, again, resume=True, display=display).over
    assert distance(whole, again) == 0.0
    assert measured(whole) == measured(again)
    train(job("torch", DROPOUT, log_every=1, seed=1), other)
    assert distance(whole, other) > 0.0


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    asked = job("torch", DROPOUT)
    train(asked, whole)
    train(asked, again)
    newest = again / "checkpoints" / "step-00000008"
    state = newest / "state.ckpt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    display = Stopping(0)
    train(asked, again, resume=True, display=display)
    assert display.said == [
        f"warning: {newest} is damaged: state.ckpt has changed since it was written"
    ]
    assert distance(whole, again) == 0.0


def test_two_processes_match_one_where_statistics_are_synchronized(tmp_path: Path) -> None:
    words = ["train", SPEC, "--data", "digits", "--subset", "128", "--epochs", "1"]
    words += ["--batch-size", "32", "--precision", "float64", "--log-every", "1"]
    words += ["--set", "blocks.*.feature=1", "--set", "expect={}"]
    asked = job(
        "torch",
        "blocks.*.feature=1",
        level=0,
        changes={"epochs": 1, "batch_size": 32},
        precision="float64",
        log_every=1,
    )
    train(asked, tmp_path / "one")
    done = run(
        command(*words, "--devices", "2", "--sync-batchnorm", "--out", tmp_path / "two"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-10)
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-10
    # As torchrun starts them, each with the statistics of its own half.
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    done = run([*launched, *command(*words, "--out", tmp_path / "apart")[2:]])
    assert done.returncode == 0, done.stderr
    assert distance(tmp_path / "one", tmp_path / "apart") > 1e-6


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", SPEC, "--data", "digits", "--log-every", "1", "--out", out, "--epochs", "50"]
    process = subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_row(out / "steps.csv", 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.startswith("stopped; ") and "--resume continues" in errors
    checkpoint, faults = Run(out).checkpoints.newest()
    assert checkpoint is not None and checkpoint.step >= 3 and not faults


def test_low_precision_trains(tmp_path: Path) -> None:
    train(job("torch", precision="float32", log_every=1), tmp_path / "whole")
    train(job("torch", precision="bfloat16", log_every=1), tmp_path / "low")
    whole, low = losses(tmp_path / "whole"), losses(tmp_path / "low")
    assert low == pytest.approx(whole, rel=0.2) and low != whole
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="float16 needs a GPU"):
            train(job("torch", precision="float16"), tmp_path / "none")
    words = [
        "train",
        SPEC,
        "--data",
        "digits",
        "--subset",
        "128",
        "--epochs",
        "1",
        "--devices",
        "2",
    ]
    words += [
        "--batch-size",
        "32",
        "--precision",
        "bfloat16",
        "--sync-batchnorm",
        "--log-every",
        "1",
    ]
    done = run(command(*words, "--out", tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two")[0] == pytest.approx(low[0], rel=0.02)


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    rates = {"epochs": 2, "batch_size": 32, "learning_rate": 1e38}
    with pytest.raises(
        TrainingError, match=r"the loss is nan at step \d .*lower --learning-rate and another --out"
    ):
        train(job("torch", changes=rates, log_every=1), tmp_path)


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        ({"nodes": 2}, {}, "start it by torchrun or srun"),
        ({"devices": 1}, {"RANK": "0", "WORLD_SIZE": "2"}, "2 processes were launched"),
    ],
)
def test_processes_that_are_not_there_are_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        train(job("torch", **options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_run_notes(tmp_path: Path) -> None:
    train(job("torch", DROPOUT, seed=3), tmp_path, command=["typed"], overrides=[DROPOUT])
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["seed"] == 3 and facts["command"] == ["typed"] and facts["overrides"] == [DROPOUT]
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["recipe"]["epochs"] == 2 and facts["data"]["subset"] == 128
    assert (tmp_path / "tensorboard").is_dir()
    module: ModuleType = load_source((tmp_path / "quickstart.py").read_text(), "noted")
    assert hasattr(module, "Quickstart")
