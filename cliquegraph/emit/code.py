"""Source text with brackets that can break, and its layout to a line width.

The layout is the one on which common Python formatters agree: a bracket that does not fit has its
items on one indented line, or else one item per line with a trailing comma. Lists of names that
are too long for one line are an exception: they fill lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import TypeGuard

WIDTH = 100
INDENT = "    "


@dataclass(frozen=True)
class Text:
    """Source that is never broken."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Bracket:
    """Items between brackets: a call, a list, a subscript, a signature."""

    head: str
    items: tuple[Code, ...]
    close: str

    def __str__(self) -> str:
        return f"{self.head}{', '.join(map(str, self.items))}{self.close}"


Code = Text | Bracket


def call(function: str, *items: Code | str) -> Bracket:
    """Return ``function(items)``."""
    return Bracket(f"{function}(", _codes(items), ")")


def listing(*items: Code | str) -> Bracket:
    """Return ``[items]``."""
    return Bracket("[", _codes(items), "]")


def _codes(items: tuple[Code | str, ...]) -> tuple[Code, ...]:
    return tuple(Text(item) if isinstance(item, str) else item for item in items)


def layout(code: Code, *, prefix: str = "", suffix: str = "", depth: int = 0) -> list[str]:
    """Return ``prefix + code + suffix`` as lines, each indented by ``depth`` levels."""
    indent = INDENT * depth
    line = f"{indent}{prefix}{code}{suffix}"
    if len(line) <= WIDTH or isinstance(code, Text):
        return [line]
    first, last = f"{indent}{prefix}{code.head}", f"{indent}{code.close}{suffix}"
    together = f"{indent}{INDENT}{', '.join(map(str, code.items))}"
    if len(together) <= WIDTH:
        return [first, together, last]
    if _is_list(code):
        # The sources of a late layer: rows of names read better than one name per line.
        text = f"{', '.join(map(str, code.items))},"
        return [first, *_wrap(text, indent + INDENT, WIDTH), last]
    if len(code.items) == 1 and _is_list(code.items[0]):
        outer = f"{prefix}{code.head}", f"{code.close}{suffix}"
        return layout(code.items[0], prefix=outer[0], suffix=outer[1], depth=depth)
    items = [line for item in code.items for line in layout(item, suffix=",", depth=depth + 1)]
    return [first, *items, last]


def _is_list(code: Code) -> TypeGuard[Bracket]:
    return (
        isinstance(code, Bracket)
        and code.head == "["
        and all(isinstance(item, Text) for item in code.items)
    )


def string(text: str, prefix: str, depth: int) -> Iterator[str]:
    """Yield the lines of ``prefix`` and a quoted string, in rows where it is too long for one."""
    start = INDENT * depth
    if len(line := f'{start}{prefix}"{text}"') <= WIDTH:
        yield line
        return
    rows = wrap(text, WIDTH - len(f'{start}{INDENT}""') - 1)
    quoted = [f'{start}{INDENT}"{row} "' for row in rows[:-1]]
    yield from (f"{start}{prefix}(", *quoted, f'{start}{INDENT}"{rows[-1]}"', f"{start})")


def comment(text: str, depth: int = 0) -> list[str]:
    """Return ``text`` as comment lines, wrapped between words."""
    return _wrap(text, f"{INDENT * depth}# ", WIDTH)


def paragraph(text: str) -> str:
    """Return ``text`` as lines, wrapped between words."""
    return "\n".join(_wrap(text, "", WIDTH))


def _wrap(text: str, start: str, width: int) -> list[str]:
    return wrap(
        text,
        width,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def docstring(text: str, depth: int = 0) -> str:
    """Return ``text`` as a docstring, on one line where it fits."""
    indent, quotes = INDENT * depth, '"""'
    one_line = f"{indent}{quotes}{text}{quotes}"
    if len(one_line) <= WIDTH:
        return one_line
    # Narrower by the quotes, so that no formatter joins the last two lines.
    lines = _wrap(quotes + text, indent, WIDTH - len(quotes))
    return "\n".join([*lines, f"{indent}{quotes}"])
