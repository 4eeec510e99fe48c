"""Locations in the user's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Location:
    """A location in a spec or in a command-line override.

    Attributes:
        file: path as the user gave it, or the flag itself for an override (``--set``).
        line: line number, from 1; 0 for the file as a whole.
        column: column number, from 1; 0 for the file as a whole.
        text: the whole line, so that a message can show it with a caret below.
    """

    file: str
    line: int = 0
    column: int = 0
    text: str = ""

    def __str__(self) -> str:
        file = printable(self.file)
        return f"{file}:{self.line}:{self.column}" if self.line else file


def printable(text: str) -> str:
    """Escape line breaks, direction marks and terminal control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
