"""Progress on a terminal: loss, accuracy, images/s, time left; a line for each epoch."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cliquegraph.training.launch import is_writer
from cliquegraph.training.logs import Row
from cliquegraph.training.session import Session


class Terminal:
    """A progress bar on standard error if it is a terminal, lines on standard output."""

    def __init__(self, output: Console) -> None:
        self._output = output
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not (Console(stderr=True).is_terminal and is_writer()),
        )
        self._task: TaskID | None = None
        self._steps = 0
        self._since = time.monotonic()

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, session: Session) -> None:
        """Show where training starts."""
        if self._task is not None:  # of the run before, in a study
            self._bar.remove_task(self._task)
        total = session.job.recipe.epochs * session.steps_per_epoch
        self._task = self._bar.add_task(
            "training", total=total, completed=session.done, facts="the first step compiles"
        )
        self._steps, self._since = session.done, time.monotonic()
        if session.over:
            self.say("already complete")
        elif session.restored is not None:
            self.say(f"resuming from {session.restored}, epoch {session.epoch}")

    def step(self, session: Session) -> None:
        """Update the bar."""
        if self._task is None:
            return
        now = time.monotonic()
        images = (session.done - self._steps) * session.job.recipe.batch_size
        speed = images / max(now - self._since, 1e-9)
        self._steps, self._since = session.done, now
        so_far = session.so_far
        self._bar.update(
            self._task,
            completed=session.done,
            description=f"epoch {session.epoch}",
            facts=f"loss {so_far.mean_loss:.4f} top-1 {so_far.accuracy:.2%} {speed:,.0f} images/s",
        )

    def epoch(self, session: Session, row: Row) -> None:
        """Print a row."""
        fields = [f"epoch {row['epoch']}", f"rate {row['learning_rate']:.4g}"]
        for part in ("train", *session.parts):
            loss, accuracy = row[f"{part}_loss"], row[f"{part}_top1"]
            fields.append(f"{part} loss {loss:.4f} top-1 {accuracy:.2%}")
        self.say(", ".join(fields) + f", {row['seconds']:.1f} s")

    def say(self, line: str) -> None:
        """Print a line, above the bar if both are on one terminal."""
        if not self._bar.disable and self._output.is_terminal:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._output.print(line)
