"""Places in what the user wrote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Location:
    """A place in a spec or in a command-line override.

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
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file
