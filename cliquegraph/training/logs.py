"""The metrics of a run: CSV files, and the same for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.files import read_text, write_files

Row = Mapping[str, float | int | str]


class Table:
    """A CSV file to which a run appends rows, in ascending order of the first column."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self.columns = columns

    def keep_below(self, key: int) -> None:
        """Create the file, or drop the rows from ``key`` on, where the run continues.

        Raises:
            UsageError: it can't be read, or was not written by a run.
        """
        try:
            rows = [row for row in read_table(self.path) if int(row[self.columns[0]]) < key]
        except (KeyError, ValueError) as error:
            raise UsageError(f"{self.path} was not written by a run: {error}") from None
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_files({self.path: text.getvalue()})

    def append(self, row: Row) -> None:
        """Append a row.

        Raises:
            TrainingError: it can't be written.
        """
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)
        except OSError as error:
            raise TrainingError(f"can't write {self.path}: {error.strerror}") from None


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a CSV file, none if there is no file.

    A last row that a killed process left incomplete is dropped.

    Raises:
        UsageError: it can't be read, or is not such a table.
    """
    lines = io.StringIO(read_text(path) or "", newline="").readlines()
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    try:
        rows = list(csv.DictReader(lines))
    except csv.Error as error:
        raise UsageError(f"{path} was not written by a run: {error}") from None
    return [row for row in rows if None not in row.values() and None not in row]


class Board:
    """Scalars for TensorBoard; does nothing if it is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError:
            self._writer: Any = None
        else:
            self._writer = Writer(str(folder))

    @property
    def installed(self) -> bool:
        """Whether TensorBoard is installed."""
        return self._writer is not None

    def add(self, row: Row, step: int) -> None:
        """Add all numbers of a row; ``train_loss`` becomes ``train/loss``."""
        if self._writer is None:
            return
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name.replace("_", "/", 1), value, step)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
