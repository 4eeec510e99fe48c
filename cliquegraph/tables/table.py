"""The layout of tables."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cliquegraph.diagnostics.location import printable
from cliquegraph.emit.words import engineering

Json = dict[str, Any]


class _Table(Table):
    """A table that escapes terminal control characters in its cells."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        shown = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, **options)


def table(title: str | None, *columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table; the columns in ``right`` hold numbers."""
    result = _Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        result.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    return result


def mark(holds: bool, detail: str) -> Text:
    """Return a check mark or a cross, with a description."""
    return Text.assemble(("✓ ", "green") if holds else ("✗ ", "bold red"), detail)


def size(number: int) -> str:
    """Return a number of bytes with a unit."""
    return f"{engineering(number)}B"


def finite(errors: dict[str, float]) -> dict[str, float | None]:
    """Return errors for JSON, which has no infinity: non-finite ones are null."""
    return {what: error if isfinite(error) else None for what, error in errors.items()}
