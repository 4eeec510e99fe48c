"""Training and evaluating, as the command line and the Python API do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cliquegraph.compiler import Compilation
from cliquegraph.data import Batches
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.engines import find_engine
from cliquegraph.training.job import Job, Precision
from cliquegraph.training.launch import is_writer
from cliquegraph.training.logs import Row
from cliquegraph.training.run import Run
from cliquegraph.training.scores import Scores
from cliquegraph.training.session import Display, Session
from cliquegraph.training.settle import settle


class Silent:
    """Shows nothing."""

    def start(self, session: Session) -> None:
        """Show nothing."""

    def step(self, session: Session) -> None:
        """Show nothing."""

    def epoch(self, session: Session, row: Row) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""


def train(
    job: Job,
    out: Path,
    *,
    resume: bool = False,
    display: Display | None = None,
    command: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Session:
    """Train a network; return the session as it ended.

    Args:
        job: what is trained, on what, and how; ``settle`` chooses what it leaves open.
        out: the run's folder.
        resume: go on with the run that is there.
        display: shows how it goes.
        command: what was typed, for ``run.json``.
        overrides: what was changed in the spec, for ``run.json``.

    Raises:
        UsageError: the folder holds another run, or devices that can't be had.
        BackendError: the backend is not installed, or nothing trains its models.
        ExpectError, VerificationError: as of ``Compilation.source``.
        TrainingError: the loss is no number, or a file can't be written.
    """
    engine, run, shown = find_engine(job.backend), Run(out), display or Silent()
    job, line = settle(job, engine, run if resume else None)
    engine.check(job)
    source = job.compilation.source(find_backend(job.backend))
    session = Session(job, source, run, shown, writer=is_writer())
    opened = session.open(engine.versions, command=command, overrides=overrides, resume=resume)
    with opened:
        if not session.over:
            if line and is_writer():
                shown.say(line)
            engine.train(session)
    return session


def evaluate(
    compilation: Compilation,
    backend: str,
    tensors: Mapping[str, Array],
    batches: Batches,
    precision: Precision = "float32",
) -> Scores:
    """Score a network on every image of a part of a data set.

    Args:
        compilation: the network.
        backend: whose model runs.
        tensors: its canonical tensors, by name.
        batches: the images.
        precision: of the arithmetic.

    Raises:
        WeightsError: ``tensors`` are not those of the network.
        BackendError: the backend is not installed.
    """
    classify = find_engine(backend).classifier(compilation, tensors, precision)
    scores = Scores(compilation.network.classifier.classes)
    for batch in batches.epoch(0):
        scores.add(classify(batch.images), batch.labels)
    return scores
