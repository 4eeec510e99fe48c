"""How messages name a path in a spec and the value found there."""

from __future__ import annotations

from collections.abc import Iterable

from cliquegraph.spec.schema import Path

LONGEST = 40
"""Maximum number of characters of a user's value that a message repeats."""


def dotted(path: Path) -> str:
    """Format a path as ``--set`` does.

    >>> dotted(("blocks", 0, "filters"))
    'blocks.0.filters'
    """
    return ".".join(_cut(ascii(str(part))[1:-1]) for part in path)


def describe_value(value: object) -> str:
    """Describe a value the way it is written in YAML.

    >>> describe_value(True), describe_value(None), describe_value("many"), describe_value([1, 2])
    ('true', 'nothing', "'many'", '[1, 2]')
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        if any(isinstance(item, dict | list) for item in value):
            return f"a list of {len(value)}"
        shown = f"[{', '.join(describe_value(item) for item in value)}]"
        return shown if len(shown) <= LONGEST else f"a list of {len(value)}"
    return _cut(ascii(value))


def _cut(shown: str) -> str:
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def listing(items: Iterable[object], last: str = "and") -> str:
    """Join items as in a sentence.

    >>> listing(["a", "b", "c"], "or")
    'a, b or c'
    """
    *front, end = [str(item) for item in items]
    return f"{', '.join(front)} {last} {end}" if front else end
