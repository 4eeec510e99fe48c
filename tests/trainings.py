"""Small trainings, for the tests of every engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from cliquegraph import load
from cliquegraph.compiler import Compilation
from cliquegraph.data import open_data
from cliquegraph.training.job import Job, Source
from cliquegraph.training.logs import Row, read_table
from cliquegraph.training.recipe import recipe_of
from cliquegraph.training.session import Session

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "specs" / "quickstart.yaml"
DROPOUT = "blocks.*.dropout=0.2"
SMALL = ("blocks=[{layers: 2, filters: 4, dropout: 0.2}]", "expect={}")


def job(
    backend: str,
    *overrides: str,
    level: int = 1,
    subset: int | None = 128,
    data: str = "digits",
    changes: Mapping[str, Any] = {"epochs": 2, "batch_size": 32},
    **options: Any,
) -> Job:
    compilation = Compilation(load(SPEC, [*overrides, "expect={}"]), level)
    recipe = recipe_of(compilation.network, **changes)
    image = compilation.network.input
    shape = image.channels, image.height, image.width
    images = open_data(data, shape=shape, classes=10, treatment=recipe.treatment, subset=subset)
    return Job(compilation, backend, recipe, Source(data, 0.0, subset), images, **options)


def small_job(
    backend: str,
    *,
    overrides: tuple[str, ...] = SMALL,
    subset: int = 192,
    epochs: int = 1,
    batch_size: int = 32,
    **options: Any,
) -> Job:
    """A network that compiles in a moment, in float64; every step is a row of steps.csv."""
    changes = {"epochs": epochs, "batch_size": batch_size}
    chosen = {"precision": "float64", "log_every": 1, **options}
    return job(backend, *overrides, subset=subset, changes=changes, **chosen)


def long_job(backend: str) -> Job:
    """Long enough to be killed at any moment of it: 48 steps, a checkpoint every two."""
    changes = {"epochs": 3, "batch_size": 16}
    return job(backend, DROPOUT, subset=256, changes=changes, checkpoint_every=2, log_every=1)


def weights(run: Path, name: str = "last") -> dict[str, np.ndarray]:
    return load_file(run / f"{name}.safetensors")


def distance(one: Path, other: Path) -> float:
    """The greatest difference between the weights of two runs."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def losses(run: Path) -> list[float]:
    return [float(row["loss"]) for row in read_table(run / "steps.csv")]


def measured(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without how long they took."""
    rows = read_table(run / "metrics.csv")
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


class Stopping:
    """A display that asks to stop after some rows of steps.csv, as ctrl-C does."""

    def __init__(self, rows: int) -> None:
        self.left = rows
        self.said: list[str] = []

    def start(self, session: Session) -> None:
        pass

    def step(self, session: Session) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, session: Session, row: Row) -> None:
        pass

    def say(self, line: str) -> None:
        self.said.append(line)


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "cliquegraph", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def run(words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=600
    )


def wait_for_row(path: Path, row: int, process: subprocess.Popen[str]) -> None:
    """Wait until a CSV file has that many rows."""
    deadline = time.monotonic() + 300
    while len(read_table(path)) < row:
        assert process.poll() is None, "the training ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)
