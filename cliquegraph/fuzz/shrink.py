"""Making a spec small that fails, for as long as it fails.

Each candidate has fewer values than what it is made of, or as many and smaller ones, so that it
comes to an end; candidates that are no networks don't fail, and so are passed over.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from cliquegraph.fuzz.draw import Document, read_document
from cliquegraph.spec.schema import CliqueBlock
from cliquegraph.spec.shorthand import DEFAULT_KIND as KIND

Path = tuple[str | int, ...]

_MAX_TRIES = 500
_KEPT = ("cliquegraph", "name")
STAGES: int = CliqueBlock.model_fields["stages"].default


def shrink(document: Document, fails: Callable[[Document], bool]) -> Document:
    """Return a spec that fails and of which no single reduction does, or the last of 500 tried.

    1. What the blocks share is written into them, and what is the default left out.
    2. Sections, blocks and keys are left out.
    3. Blocks lose layers and stages, and with them what names those.
    4. Numbers become 1, or half, or one less.

    Args:
        document: a spec that fails.
        fails: whether a spec still fails in the same way; it may be no network.
    """
    search = _Search(fails)
    plain = _plain(document)
    if plain != document and search.fails(plain):
        document = plain
    while (smaller := _first(search, document)) is not None:
        document = smaller
    return document


class _Search:
    """What was tried, each once, and how much more may be."""

    def __init__(self, fails: Callable[[Document], bool]) -> None:
        self._fails = fails
        self._tried: set[str] = set()

    def fails(self, document: Document) -> bool:
        """Whether a spec that was not tried before fails."""
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


def _size(value: Any) -> tuple[int, float]:
    """How many values there are, and how large their numbers; true is more than false."""
    if isinstance(value, dict | list):
        parts = list(value.values() if isinstance(value, dict) else value)
        if _is_clique(value) and "stages" not in value:
            parts.append(STAGES)  # so that one stage is less
        sizes = [_size(part) for part in parts]
        return 1 + sum(count for count, _ in sizes), sum(number for _, number in sizes)
    return 1, float(value) if isinstance(value, int | float) else 0.0


def _candidates(document: Document) -> Iterator[Document]:
    """Smaller specs, the largest steps first."""
    blocks = document["blocks"]
    if len(blocks) > 1:
        yield from ({**document, "blocks": [block]} for block in blocks)
        yield from ({**document, "blocks": [*blocks[:i], *blocks[i + 1 :]]} for i in _span(blocks))
    for path in _keys(document):
        yield _changed(document, path)
    for i in _span(blocks):
        for block in (*_fewer_layers(blocks[i]), *_fewer_stages(blocks[i])):
            yield {**document, "blocks": [*blocks[:i], block, *blocks[i + 1 :]]}
    for path, number in _numbers(document):
        for smaller in dict.fromkeys((1, number // 2, number - 1)):
            yield _changed(document, path, smaller)


def _span(items: list[Any]) -> range:
    return range(len(items))


def _keys(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every key, those of sections before those inside them."""
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
    """The spec with another number at ``path``, or with nothing there."""
    made = copy.deepcopy(document)
    section: Any = made
    for part in path[:-1]:
        section = section[part]
    if number is None:
        del section[path[-1]]
    else:
        section[path[-1]] = number
    return made


def _fewer_layers(block: Document) -> Iterator[Document]:
    """The block with one layer less; an order that names layers loses one too."""
    n = block.get("layers", 1) - 1
    if n < 1:
        return
    made = {**block, "layers": n}
    if "last_stage_updates" in made:
        made["last_stage_updates"] = min(made["last_stage_updates"], n)
    if not isinstance(made.get("order"), list):
        yield made
        return
    for left_out in made["order"]:
        others = [layer for layer in made["order"] if layer != left_out]
        yield {**made, "order": [layer - (layer > left_out) for layer in others]}


def _fewer_stages(block: Document) -> Iterator[Document]:
    """The block with one stage less; keys that name stages name those that are left."""
    stages = block.get("stages", STAGES) - 1
    if stages < 1 or not _is_clique(block):
        return
    keys = [key for key in ("feature", "transit") if key in block]
    made: Document = {**block, "stages": stages}
    made |= {key: min(block[key], stages) for key in keys}
    if stages == 1:
        made.pop("last_stage_updates", None)  # which visits every layer
    yield made


def _is_clique(value: Any) -> bool:
    return isinstance(value, dict) and "layers" in value and value.get("kind", KIND) == KIND
