"""How tables look."""

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
    """A table in whose cells no name out of a file speaks to the terminal."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        shown = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, **options)


def table(title: str | None, *columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table; the columns in ``right`` hold numbers."""
    made = _Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        made.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    return made


def mark(holds: bool, detail: str) -> Text:
    """Return a mark, whether something holds, and what."""
    return Text.assemble(("✓ ", "green") if holds else ("✗ ", "bold red"), detail)


def size(number: int) -> str:
    """Return bytes as people read them."""
    return f"{engineering(number)}B"


def finite(errors: dict[str, float]) -> dict[str, float | None]:
    """Return what JSON can hold: it has no infinity, what can't be compared at all is null."""
    return {what: error if isfinite(error) else None for what, error in errors.items()}
