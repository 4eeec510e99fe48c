"""A training in progress: its state, logs and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cliquegraph.data import Batches
from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.ir.storage import Array
from cliquegraph.training.interrupt import Interrupt
from cliquegraph.training.job import Job
from cliquegraph.training.logs import Board, Row, Table
from cliquegraph.training.run import EPOCHS, STEPS, Run
from cliquegraph.training.scores import Scores, Totals
from cliquegraph.training.trainee import Trainee
from cliquegraph.weights.initial import initial_tensors


class Display(Protocol):
    """Shows the progress of a training."""

    def start(self, session: Session) -> None:
        """Called before the first step."""

    def step(self, session: Session) -> None:
        """Called with each row of ``steps.csv``."""

    def epoch(self, session: Session, row: Row) -> None:
        """Called with each row of ``metrics.csv``."""

    def say(self, line: str) -> None:
        """Show a line."""


class Session:
    """The interface by which an engine trains; see ``Engine.train``.

    Attributes:
        job: the job.
        epoch: the current epoch, from 0.
        step: its completed steps.
        source: the generated model's source.
        restored: folder of the checkpoint to resume from, or None.
        so_far: totals of this epoch.
        interrupted: whether training was stopped by a signal.
    """

    def __init__(
        self, job: Job, source: str, run: Run, display: Display, *, writer: bool = True
    ) -> None:
        self.job = job
        self.source = source
        self.run = run
        self.epoch = self.step = 0
        self.restored: Path | None = None
        self.so_far = Totals()
        self.interrupted = False
        self._writer = writer
        self._display = display
        self._interrupt = Interrupt()
        self._best: float | None = None
        self._began, self._seconds = time.monotonic(), 0.0
        self.steps_per_epoch = len(job.data.training(job.recipe.batch_size, seed=job.seed))
        self.parts = tuple(part for part in job.data.parts if part != "train")
        scored = [f"{part}_{name}" for part in self.parts for name in ("loss", "top1", "top5")]
        columns = ("epoch", "step", "learning_rate", "train_loss", "train_top1", *scored)
        self._epochs = Table(run.folder / EPOCHS, (*columns, "seconds"))
        self._steps = Table(run.folder / STEPS, ("step", "epoch", "learning_rate", "loss"))

    # ---- queries of an engine ---------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether training has ended."""
        return self.interrupted or self.epoch >= self.job.recipe.epochs

    @property
    def rate(self) -> float:
        """The learning rate of this step."""
        return self.job.recipe.rate(self.epoch)

    @property
    def done(self) -> int:
        """Completed steps since the start of training."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def class_name(self) -> str:
        """The class name of the model in ``source``."""
        return self.job.compilation.network.python_class

    def initial(self) -> dict[str, Array]:
        """Return the initial tensors, float64, by name; those of a file replace random ones."""
        tensors = initial_tensors(self.job.compilation.lowered, self.job.seed)
        if self.job.initial is not None:
            loaded = self.job.initial.tensors
            tensors |= {name: each.astype(np.float64) for name, each in loaded.items()}
        return tensors

    def dropout_seed(self, rank: int, part: int = 0) -> int:
        """Return the seed of dropout in this step, for a rank and an accumulated part."""
        words = (self.job.seed, self.done, rank, part)
        return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))

    noise = dropout_seed  # the old name

    def batches(self, rank: int = 0, ranks: int = 1) -> Batches:
        """Return a rank's training batches; resume with ``epoch(session.epoch, session.step)``."""
        job = self.job
        return job.data.training(job.recipe.batch_size, seed=job.seed, rank=rank, ranks=ranks)

    def evaluation(self, part: str, rank: int = 0, ranks: int = 1) -> Batches:
        """Return a rank's batches of one of ``parts``."""
        return self.job.data.evaluation(part, self.job.recipe.batch_size, rank=rank, ranks=ranks)

    # ---- reports of an engine -----------------------------------------------------------

    def step_done(self, trainee: Trainee) -> bool:
        """Count a step; write logs and checkpoints when they are due.

        Returns:
            Whether to stop on request; the state has then been saved.

        Raises:
            TrainingError: the loss is not finite, or a file can't be written.
        """
        self.step += 1
        last = self.step == self.steps_per_epoch
        logs = self.done % self.job.log_every == 0 or last
        # Ranks may receive a signal at different steps; they agree on one when they communicate.
        stops = (logs or trainee.alone) and trainee.any(self._interrupt.requested)
        saves = not last and self.done % self.job.checkpoint_every == 0
        if logs or saves or stops:
            self._log_step(trainee.totals())
        if (saves or stops) and not last:
            self._save(trainee)
        self.interrupted = stops and not last  # the end of an epoch is saved with its scores
        return self.interrupted

    def epoch_done(self, trainee: Trainee, scores: Mapping[str, Scores]) -> None:
        """Record the scores of ``parts``; write the weights and a checkpoint."""
        row = self._row(scores)
        chosen = scores.get(self.parts[0]) if self.parts else None
        accuracy = chosen.totals.accuracy if chosen else self.so_far.accuracy
        better = self._best is None or accuracy > self._best
        tensors = trainee.tensors()
        if better:
            self._best = accuracy
        if self._writer:
            self._write_epoch(row, tensors, better)
            self._display.epoch(self, row)
        self.epoch, self.step, self.so_far = self.epoch + 1, 0, Totals()
        self._seconds, self._began = 0.0, time.monotonic()
        self._save(trainee)
        self.interrupted = trainee.any(self._interrupt.requested) and not self.over

    def _write_epoch(self, row: Row, tensors: Mapping[str, Array], better: bool) -> None:
        network = self.job.compilation.network
        try:
            with self._interrupt.deferred():
                self._epochs.append(row)
                self._board.add(row, self.done)
                if better:
                    self.run.keep(network, "best", tensors)
                self.run.keep(network, "last", tensors)
        except (UsageError, OSError) as error:
            raise TrainingError(
                f"{error}; --resume continues from the last checkpoint in {self.run.folder}"
            ) from None

    # ---- the run -------------------------------------------------------------------------

    @contextmanager
    def open(
        self,
        versions: Mapping[str, str],
        *,
        command: Sequence[str] = (),
        overrides: Sequence[str] = (),
        resume: bool = False,
    ) -> Iterator[None]:
        """Lock the run's folder and restore the state of its newest checkpoint.

        Ranks on several machines must share the folder.
        """
        if not self._writer:
            self._restore(resume)
            with self._interrupt.listening():
                yield
            return
        self.run.start(
            self.job,
            self.source,
            versions,
            command=command,
            overrides=overrides,
            resume=resume,
        )
        try:
            self._restore(resume)
            self._epochs.keep_below(self.epoch)
            self._steps.keep_below(self.done + 1)
            with self._logging(), self._interrupt.listening():
                yield
        finally:
            self.run.release()

    @contextmanager
    def _logging(self) -> Iterator[None]:
        self._board = Board(self.run.folder / "tensorboard")
        if not self._board.installed:
            self._display.say("TensorBoard is not installed: logging to CSV only")
        self._display.start(self)
        try:
            yield
        finally:
            self._board.close()

    def _restore(self, resume: bool) -> None:
        if not resume:
            return
        checkpoint, errors = self.run.checkpoints.newest()
        for error in errors if self._writer else ():
            self._display.say(f"warning: {error}")
        if checkpoint is None:
            if errors and self._writer:
                self._display.say("no checkpoint is intact: starting over")
            return
        facts = checkpoint.facts
        self.epoch, self.step = facts["epoch"], facts["step"]
        self.so_far = Totals(*facts["so_far"])
        self._best, self._seconds = facts["best"], facts["seconds"]
        self.restored = checkpoint.folder

    def _save(self, trainee: Trainee) -> None:
        seconds = self._seconds + time.monotonic() - self._began
        so_far = self.so_far
        facts: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "so_far": [so_far.loss, so_far.hits, so_far.images],
            "best": self._best,
            "seconds": seconds,
        }
        with self._interrupt.deferred():
            self.run.checkpoints.write(self.done, facts, trainee.save, writer=self._writer)

    def _log_step(self, totals: Totals) -> None:
        if not math.isfinite(totals.loss):
            raise TrainingError(
                f"the loss is {totals.mean_loss} at step {self.done} (epoch {self.epoch}): start "
                "over with a lower --learning-rate and another --out"
            )
        if not totals.images:
            return  # a checkpoint directly after a logged row
        self.so_far += totals
        if self._writer:
            row = {
                "step": self.done,
                "epoch": self.epoch,
                "learning_rate": self.rate,
                "loss": totals.mean_loss,
            }
            self._steps.append(row)
            self._board.add({"step_loss": totals.mean_loss}, self.done)
            self._display.step(self)

    def _row(self, scores: Mapping[str, Scores]) -> dict[str, float | int]:
        row: dict[str, float | int] = {
            "epoch": self.epoch,
            "step": self.done,
            "learning_rate": self.rate,
            "train_loss": self.so_far.mean_loss,
            "train_top1": self.so_far.accuracy,
        }
        for part, score in scores.items():
            totals = score.totals
            row[f"{part}_loss"] = totals.mean_loss
            row[f"{part}_top1"] = totals.accuracy
            row[f"{part}_top5"] = score.top5
        row["seconds"] = round(self._seconds + time.monotonic() - self._began, 3)
        return row
