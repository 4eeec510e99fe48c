"""The lines of a generated file that name its origin."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from cliquegraph.diagnostics.location import printable


def origin_lines(
    path: str, backend: str, options: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    """Return the spec and the command, without anything specific to this machine.

    An absolute path becomes relative to the current folder, or else only the file's name.
    """
    shown = Path(path)
    if shown.is_absolute():
        here = Path.cwd()
        shown = shown.relative_to(here) if shown.is_relative_to(here) else Path(shown.name)
    words = ["cliquegraph", "compile", shown.as_posix(), "--backend", backend, *options]
    for override in overrides:
        words += ["--set", override]
    return [
        f"    spec:       {_escape(shown.as_posix())}",
        f"    command:    {_escape(shlex.join(words))}",
    ]


def _escape(text: str) -> str:
    """Escape text that could end a docstring or hide its contents."""
    return json.dumps(printable(text), ensure_ascii=False)[1:-1]
