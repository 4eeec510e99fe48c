"""The lines of a generated file that say where it comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from cliquegraph.diagnostics.location import printable


def origin_lines(
    path: str, backend: str, options: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    """Return the spec and the command; nothing of this machine is in them.

    An absolute path becomes one from the current folder, or else the file's name alone.
    """
    shown = Path(path)
    if shown.is_absolute():
        here = Path.cwd()
        shown = shown.relative_to(here) if shown.is_relative_to(here) else Path(shown.name)
    words = ["cliquegraph", "compile", shown.as_posix(), "--backend", backend, *options]
    for override in overrides:
        words += ["--set", override]
    return [
        f"    spec:       {_harmless(shown.as_posix())}",
        f"    command:    {_harmless(shlex.join(words))}",
    ]


def _harmless(text: str) -> str:
    """Text that neither ends a docstring nor hides what is in it."""
    return json.dumps(printable(text), ensure_ascii=False)[1:-1]
