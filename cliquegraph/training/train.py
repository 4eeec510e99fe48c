"""Training and evaluation, for the command line and the Python API."""

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
    """Shows no progress."""

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
    """Train a network; return the session after its last step.

    Args:
        job: what to train, on what data, and how; ``settle`` resolves its open settings.
        out: the run's folder.
        resume: continue the existing run.
        display: shows progress.
        command: the command line, for ``run.json``.
        overrides: the changes to the spec, for ``run.json``.

    Raises:
        UsageError: the folder holds another run, or devices are unavailable.
        BackendError: the backend is not installed, or has no training engine.
        ExpectError, VerificationError: as in ``Compilation.source``.
        TrainingError: the loss is not finite, or a file can't be written.
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
    """Score a network on every image of a part of a data set; over time, its last stage.

    Args:
        compilation: the network.
        backend: the backend whose model runs.
        tensors: its canonical tensors, by name.
        batches: the images.
        precision: of the arithmetic.

    Raises:
        WeightsError: ``tensors`` do not match the network.
        BackendError: the backend is not installed.
    """
    return evaluate_stages(compilation, backend, tensors, batches, precision)[-1]


def evaluate_stages(
    compilation: Compilation,
    backend: str,
    tensors: Mapping[str, Array],
    batches: Batches,
    precision: Precision = "float32",
) -> tuple[Scores, ...]:
    """Score each stage of a readout over time; of any other network there is one.

    Args and errors are those of ``evaluate``.
    """
    classify = find_engine(backend).classifier(compilation, tensors, precision)
    classes = compilation.network.classifier.classes
    scores = tuple(Scores(classes) for _ in compilation.stages or (None,))
    for batch in batches.epoch(0):
        logits = classify(batch.images)
        stages = logits if compilation.stages else logits[None]
        for each, of_stage in zip(scores, stages, strict=True):
            each.add(of_stage, batch.labels)
    return scores
