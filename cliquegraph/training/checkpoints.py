"""Checkpoints of a run: written atomically, verified before use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliquegraph.diagnostics.errors import TrainingError

_MANIFEST = "manifest.json"
_FACTS = "facts.json"
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A folder with an engine's state.

    Attributes:
        folder: its path.
        step: steps since the start of the run.
        facts: the run's own state, stored with the engine's.
    """

    folder: Path
    step: int
    facts: dict[str, Any]


class Checkpoints:
    """The folders ``step-N`` of a run.

    A checkpoint is written as ``step-N.tmp``, gets a manifest of SHA-256 sums, is synced and
    renamed: under its final name it is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """Return the newest intact checkpoint, and a message for each newer, damaged one."""
        errors: list[str] = []
        for step, folder in sorted(self._complete(), reverse=True):
            damage = _damage(folder)
            if damage is None:
                facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
                return Checkpoint(folder, step, facts), tuple(errors)
            errors.append(f"{folder} is damaged: {damage}")
        return None, tuple(errors)

    def write(
        self,
        step: int,
        facts: dict[str, Any],
        save: Callable[[Path], None],
        *,
        writer: bool = True,
    ) -> None:
        """Write a checkpoint and remove all but the last two.

        Args:
            step: steps since the start of the run.
            facts: the run's own state, JSON.
            save: writes the engine's state into a folder; every rank calls it.
            writer: whether this rank writes files; the others only participate in ``save``.

        Raises:
            TrainingError: the disk is full, or the folder can't be written; the older
                checkpoints remain.
        """
        final = self.folder / f"step-{step:08d}"
        partial = final.with_suffix(".tmp")
        if not writer:
            save(partial)
            return
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save(partial)
            (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            sums = {name: _digest(partial / name) for name in sorted(_files(partial))}
            (partial / _MANIFEST).write_text(json.dumps(sums, indent=2), encoding="utf-8")
            for path in (*map(partial.__truediv__, (*sums, _MANIFEST)), *_folders(partial)):
                _sync(path)
            shutil.rmtree(final, ignore_errors=True)  # a damaged one
            partial.rename(final)
            _sync(self.folder)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            failure = self._failure(error, final)
            if failure is None:
                raise
            raise failure from None
        self._prune()

    def clear_partial(self) -> None:
        """Remove partial files of a killed process."""
        for folder in self.folder.glob("step-*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)

    def _failure(self, error: BaseException, folder: Path) -> TrainingError | None:
        """Return the error for a failed write; None if ``error`` has another cause."""
        # Libraries don't always raise an OSError for a full disk, but their message names it.
        full = os.strerror(errno.ENOSPC)
        if not isinstance(error, OSError) and full not in str(error):
            return None
        cause = (isinstance(error, OSError) and error.strerror) or full
        last, _ = self.newest()
        rest = f"; --resume continues from {last.folder.name}" if last else ""
        return TrainingError(f"can't write the checkpoint {folder}: {cause}{rest}")

    def _prune(self) -> None:
        for _, folder in sorted(self._complete())[:-_KEPT]:
            # Renamed first, so that a partially removed folder does not look damaged.
            gone = folder.with_suffix(".tmp")
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _complete(self) -> Iterator[tuple[int, Path]]:
        for folder in self.folder.glob("step-*"):
            number = folder.name.removeprefix("step-")
            if number.isdecimal() and folder.is_dir():
                yield int(number), folder


def _damage(folder: Path) -> str | None:
    try:
        sums = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, digest in sums.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if _digest(folder / name) != digest:
                return f"{name} has changed since it was written"
        json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError) as error:
        return f"{_MANIFEST} can't be read ({error})"
    return None


def _files(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_dir())
    yield folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
