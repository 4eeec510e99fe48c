"""``--set blocks.0.filters=48``: changes to a spec before it is checked.

An override is written into the plain data of the file, so it is validated like the file itself,
and an error in it points into the override.
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
from cliquegraph.spec.wording import describe_value, dotted

FLAG = "--set"
EXAMPLE = "write PATH=VALUE, such as blocks.0.filters=48 or blocks.*.dropout=0"

Part = tuple[str, Location]
"""One part of a path and its location in the override."""


def apply(document: Document, overrides: Sequence[str]) -> None:
    """Apply the overrides to the document, in order.

    Raises:
        SpecError: overrides that can't be parsed or whose path does not exist; holds all of them.
    """
    errors: list[Diagnostic] = []
    for override in overrides:
        try:
            parts, value = _read(override)
            expand_training(document)
            _write(document, document.data, (), parts, value)
        except SpecError as error:
            errors += error.diagnostics
    if errors:
        raise SpecError(errors)


def _override_error(
    message: str, override: str, column: int = 0, hint: str | None = None
) -> SpecError:
    where = Location(FLAG, 1, column + 1, override)
    return SpecError(Diagnostic(Code.OVERRIDE, message, where, hint))


def _read(override: str) -> tuple[list[Part], Document]:
    """Split an override into its path and its value."""
    if len(override.splitlines()) != 1:
        raise _override_error("expected PATH=VALUE on one line", " ".join(override.splitlines()))
    path, equals, value = override.partition("=")
    if not equals:
        raise _override_error("expected an '=' after the path", override, len(override), EXAMPLE)
    parts: list[Part] = []
    column = 0
    for part in path.split("."):
        if not part.strip():
            message = "expected a key or a number in the path"
            raise _override_error(message, override, column, EXAMPLE)
        parts.append((part, Location(FLAG, 1, column + 1, override)))
        column += len(part) + 1
    if len(parts) > MAX_DEPTH:
        raise _override_error(
            f"a path has at most {MAX_DEPTH} parts, but this has {len(parts)}", override
        )
    if not value.strip():
        hint = "write null for nothing, {} for an empty section"
        raise _override_error("expected a value after the '='", override, len(path) + 1, hint)
    # Blanks in place of the path make the parser's columns those of the override.
    under = tuple(part for part, _ in parts)
    document = parse(" " * (len(path) + 1) + value, FLAG, shown=override, under=under)
    if document.rejected:
        raise SpecError(each for _, each in document.rejected)
    return parts, document


def _write(
    document: Document, container: Any, path: Path, parts: Sequence[Part], value: Document
) -> None:
    """Write ``value`` at ``parts`` below ``container``, which is at ``path``."""
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
    """Return the keys of ``container`` that one part of a path selects."""
    if isinstance(container, dict) and part != "*":
        return (part,)
    if isinstance(container, list):
        if part == "*":
            return range(len(container))
        if part.isdecimal() and part.isascii() and len(part) < 10 and int(part) < len(container):
            return (int(part),)
        valid = f"valid indices are 0 to {len(container) - 1}, or *"
        message = f"{dotted(path)} has no element {describe_value(part)}"
        hint = valid if container else "the list is empty"
        raise SpecError(Diagnostic(Code.OVERRIDE, message, where, hint))
    what = f"{dotted(path) or 'the spec'} is {describe_value(container)}"
    reason = (
        "'*' selects the elements of a list"
        if part == "*"
        else f"it has no {describe_value(part)} to set"
    )
    raise SpecError(Diagnostic(Code.OVERRIDE, f"{what}: {reason}", where))
