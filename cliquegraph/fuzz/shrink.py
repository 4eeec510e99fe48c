"""Shrinking of failing specs.

Each candidate has fewer values than its parent, or as many and smaller ones, so that the search
terminates; candidates that are not valid networks count as not failing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from cliquegraph.fuzz.draw import read_document
from cliquegraph.plugins.kinds import Document, Fuzzing, default_kind, kinds

Path = tuple[str | int, ...]

_MAX_TRIES = 500
_KEPT = ("cliquegraph", "name")


def shrink(document: Document, fails: Callable[[Document], bool]) -> Document:
    """Return a failing spec of which no single reduction fails, or the last one after 500 tries.

    1. Shared defaults are copied into the blocks, and default values removed.
    2. Sections, blocks and keys are removed.
    3. Blocks lose layers and stages with the keys that refer to them, as defined by their kinds.
    4. Numbers become 1, or are halved, or decremented.

    Args:
        document: a spec that fails.
        fails: returns whether a spec still fails in the same way; the spec may be invalid.
    """
    search = _Search(fails)
    plain = _plain(document)
    if plain != document and search.fails(plain):
        document = plain
    while (smaller := _first(search, document)) is not None:
        document = smaller
    return document


class _Search:
    """The tried specs, each tested once, and their limit."""

    def __init__(self, fails: Callable[[Document], bool]) -> None:
        self._fails = fails
        self._tried: set[str] = set()

    def fails(self, document: Document) -> bool:
        """Return whether a spec not tried before fails."""
        text = json.dumps(document, sort_keys=True)
        if text in self._tried or len(self._tried) >= _MAX_TRIES:
            return False
        self._tried.add(text)
        return self._fails(document)


def _first(search: _Search, document: Document) -> Document | None:
    size = _size(document)
    candidates = (each for each in _candidates(document) if _size(each) < size)
    return next((each for each in candidates if search.fails(each)), None)


def _plain(document: Document) -> Document:
    return read_document(document).model_dump(mode="json", exclude_defaults=True)


def _size(document: Document) -> tuple[int, float]:
    """The number of values, and the sum of their numbers; true counts as more than false."""
    count, number = _size_of(document)
    omitted = [each for block in document.get("blocks", ()) for each in _omitted_defaults(block)]
    return count + len(omitted), number + sum(omitted)


def _size_of(value: Any) -> tuple[int, float]:
    if isinstance(value, dict | list):
        sizes = [_size_of(part) for part in (value.values() if isinstance(value, dict) else value)]
        return 1 + sum(count for count, _ in sizes), sum(number for _, number in sizes)
    return 1, float(value) if isinstance(value, int | float) else 0.0


def _candidates(document: Document) -> Iterator[Document]:
    """Smaller specs, the largest reductions first."""
    blocks = document["blocks"]
    if len(blocks) > 1:
        yield from ({**document, "blocks": [block]} for block in blocks)
        yield from ({**document, "blocks": [*blocks[:i], *blocks[i + 1 :]]} for i in _span(blocks))
    for path in _keys(document):
        yield _changed(document, path)
    for i in _span(blocks):
        for block in _smaller(blocks[i]):
            yield {**document, "blocks": [*blocks[:i], block, *blocks[i + 1 :]]}
    for path, number in _numbers(document):
        for smaller in dict.fromkeys((1, number // 2, number - 1)):
            yield _changed(document, path, smaller)


def _span(items: list[Any]) -> range:
    return range(len(items))


def _keys(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every key, outer sections first."""
    if isinstance(value, dict):
        inside = [(*path, key) for key in value if path or key not in _KEPT]
        yield from inside
        for key, part in value.items():
            yield from _keys(part, (*path, key))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _keys(part, (*path, i))


def _numbers(value: Any, path: Path = ()) -> Iterator[tuple[Path, int]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, (*path, key))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _numbers(part, (*path, i))
    elif type(value) is int:
        yield path, value


def _changed(document: Document, path: Path, number: int | None = None) -> Document:
    """The spec with another number at ``path``, or with that key removed."""
    changed = copy.deepcopy(document)
    section: Any = changed
    for part in path[:-1]:
        section = section[part]
    if number is None:
        del section[path[-1]]
    else:
        section[path[-1]] = number
    return changed


def _fuzzing(block: Any) -> Fuzzing | None:
    """The fuzzing hooks of a block's kind, if it has a valid one."""
    name = block.get("kind", default_kind()) if isinstance(block, dict) else None
    kind = kinds().get(name) if isinstance(name, str) else None
    return kind.fuzzing if kind is not None else None


def _smaller(block: Document) -> Iterator[Document]:
    if (way := _fuzzing(block)) is not None:
        yield from way.smaller(block)


def _omitted_defaults(block: Document) -> Iterator[int]:
    """Omitted defaults that count as if written, so that a smaller explicit value is smaller."""
    if (way := _fuzzing(block)) is not None:
        fields = kinds()[block.get("kind", default_kind())].spec.model_fields
        yield from (fields[key].default for key in way.counted if key not in block)
