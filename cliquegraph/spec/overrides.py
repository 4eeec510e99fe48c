"""``--set blocks.0.filters=48``: what the command line changes in a spec before it is checked.

An override is written into the plain data of the file, so it is validated as if the file said
it, and an error about it points into the override itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.diagnostics.location import Location
from cliquegraph.spec.document import MAX_DEPTH, Document, parse
from cliquegraph.spec.schema import Path
from cliquegraph.spec.shorthand import expand_training
from cliquegraph.spec.wording import dotted, found

FLAG = "--set"
EXAMPLE = "write PATH=VALUE, such as blocks.0.filters=48 or blocks.*.dropout=0"

Part = tuple[str, Location]
"""One step of a path and its place in the override."""


def apply(document: Document, overrides: Sequence[str]) -> None:
    """Write the overrides into the document, in their order.

    Raises:
        SpecError: overrides that can't be read or whose path leads nowhere; all of them.
    """
    faults: list[Diagnostic] = []
    for override in overrides:
        try:
            parts, value = _read(override)
            expand_training(document)
            _write(document, document.data, (), parts, value)
        except SpecError as error:
            faults += error.diagnostics
    if faults:
        raise SpecError(faults)


def _fault(message: str, override: str, column: int = 0, hint: str | None = None) -> SpecError:
    where = Location(FLAG, 1, column + 1, override)
    return SpecError(Diagnostic(Code.OVERRIDE, message, where, hint))


def _read(override: str) -> tuple[list[Part], Document]:
    """Split an override into its path and its value."""
    if len(override.splitlines()) != 1:
        raise _fault("expected PATH=VALUE on one line", " ".join(override.splitlines()))
    path, equals, value = override.partition("=")
    if not equals:
        raise _fault("expected an '=' after the path", override, len(override), EXAMPLE)
    parts: list[Part] = []
    column = 0
    for part in path.split("."):
        if not part.strip():
            message = "expected a key or a number in the path"
            raise _fault(message, override, column, EXAMPLE)
        parts.append((part, Location(FLAG, 1, column + 1, override)))
        column += len(part) + 1
    if len(parts) > MAX_DEPTH:
        raise _fault(f"a path has at most {MAX_DEPTH} parts, this has {len(parts)}", override)
    if not value.strip():
        hint = "write null for nothing, {} for an empty section"
        raise _fault("expected a value after the '='", override, len(path) + 1, hint)
    # Blanks in place of the path let the parser's columns be those of the override.
    under = tuple(part for part, _ in parts)
    read = parse(" " * (len(path) + 1) + value, FLAG, shown=override, under=under)
    if read.refused:
        raise SpecError(fault for _, fault in read.refused)
    return parts, read


def _write(
    document: Document, container: Any, path: Path, parts: Sequence[Part], value: Document
) -> None:
    """Write ``value`` where ``parts`` lead from ``container``, which stands at ``path``."""
    (part, where), *rest = parts
    for key in _keys(container, path, part, where):
        inside = (*path, key)
        if not rest:
            document.put(inside, value)
            document.keys[inside] = where
            continue
        if isinstance(container, dict) and container.get(key) is None:
            container[key] = {}
            document.positions[inside] = document.keys[inside] = where
        _write(document, container[key], inside, rest, value)


def _keys(container: Any, path: Path, part: str, where: Location) -> Sequence[str | int]:
    """Return the keys of ``container`` that one part of a path reaches."""
    if isinstance(container, dict) and part != "*":
        return (part,)
    if isinstance(container, list):
        if part == "*":
            return range(len(container))
        if part.isdecimal() and part.isascii() and len(part) < 10 and int(part) < len(container):
            return (int(part),)
        reach = f"0 to {len(container) - 1}, or *" if container else "none: it is empty"
        message = f"{dotted(path)} has no element {found(part)}"
        hint = f"its elements are {reach}"
        raise SpecError(Diagnostic(Code.OVERRIDE, message, where, hint))
    what = f"{dotted(path) or 'the spec'} is {found(container)}"
    reason = (
        "'*' reaches the elements of a list" if part == "*" else f"it has no {found(part)} to set"
    )
    raise SpecError(Diagnostic(Code.OVERRIDE, f"{what}: {reason}", where))
