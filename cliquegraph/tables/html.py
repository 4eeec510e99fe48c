"""Tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from rich.table import Column, Table
from rich.text import Text


def to_html(table: Table) -> str:
    """Return a table as HTML without styles of its own: notebooks have theirs."""
    columns = [list(column.cells) for column in table.columns]
    rows = zip(*columns, strict=True)
    title = f"<caption>{_text(table.title)}</caption>" if table.title else ""
    head = _row("th", (column.header for column in table.columns), table.columns)
    body = "\n".join(_row("td", cells, table.columns) for cells in rows)
    return f"<table>{title}\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _row(tag: str, cells: Iterable[object], columns: Iterable[Column]) -> str:
    shown = (
        f'<{tag} style="text-align: {column.justify}">{_text(cell)}</{tag}>'
        for cell, column in zip(cells, columns, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"


def _text(cell: object) -> str:
    return escape(cell.plain if isinstance(cell, Text) else str(cell))
