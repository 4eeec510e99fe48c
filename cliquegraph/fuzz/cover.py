"""Coverage of the language's keys and values by specs, by walking the schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cliquegraph.plugins.kinds import kinds
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import BlockSpec

Use = tuple[str, str]
"""A key with its enclosing sections, ``clique.update``, and a class of values."""

_ABSENT = "absent"


def uses_of(document: dict[str, Any], network: NetworkSpec) -> set[Use]:
    """Return the uses of a spec; omitted keys count as their defaults."""
    defaults = document.get("block_defaults", {})
    short = {_default(key) for key in defaults}
    if isinstance(document.get("training"), str):
        short.add(_NAMED)
    return set(_used(network, "")) | short


def all_uses() -> set[Use]:
    """Return every possible use, from the schema."""
    keys = (key for kind in kinds().values() for key in kind.spec.model_fields)
    return set(_possible(NetworkSpec, "")) | {_NAMED, *map(_default, keys)}


_NAMED = ("training", "name")
"""A recipe's name in place of a section."""


def _default(key: str) -> Use:
    """A key in ``block_defaults``."""
    return f"block_defaults.{key}", "stated"


def coverage(specs: Iterable[set[Use]]) -> dict[Use, int]:
    """Count the specs with each use, including uses that occur in none."""
    counted = Counter(use for uses in specs for use in uses)
    return {use: counted[use] for use in sorted(all_uses() | counted.keys())}


def _possible(model: type[BaseModel], within: str) -> Iterator[Use]:
    for key, info in model.model_fields.items():
        path = f"{within}{key}"
        for kind in _alternatives(info.annotation):
            if kind is BlockSpec:
                for each in kinds().values():
                    yield from _possible(each.spec, _inside(each.spec, path))
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _possible(kind, _inside(kind, path))
            else:
                yield from ((path, word) for word in _words(kind, info))


def _used(model: BaseModel, within: str) -> Iterator[Use]:
    for key, info in type(model).model_fields.items():
        path, value = f"{within}{key}", getattr(model, key)
        is_list = isinstance(value, tuple) and tuple in _alternatives(info.annotation)
        for part in value if isinstance(value, tuple) and not is_list else (value,):
            if isinstance(part, BaseModel):
                yield from _used(part, _inside(type(part), path))
            else:
                yield path, _word(part, info)


def _inside(kind: type[BaseModel], path: str) -> str:
    """The prefix of keys at ``path``; for a kind of block, its name."""
    declared = kind.model_fields.get("kind")
    words = [] if declared is None else list(_alternatives(declared.annotation))
    return f"{words[0]}." if len(words) == 1 else f"{path}."


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The alternatives of a key's type: classes, None, a list, literals."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _alternatives(arguments[0])
    elif origin in (Union, UnionType):
        for each in arguments:
            yield from _alternatives(each)
    elif origin is Literal:
        yield from arguments
    elif origin is tuple and issubclass(_class_of(arguments[0]), BaseModel):
        yield from _alternatives(arguments[0])
    else:
        yield origin or annotation


def _class_of(annotation: Any) -> type:
    first = next(_alternatives(annotation))
    return first if isinstance(first, type) else object


def _words(kind: Any, info: FieldInfo) -> Iterator[str]:
    if kind is bool:
        yield from ("false", "true")
    elif kind in (int, float) and type(info.default) in (int, float):
        yield from (f"{info.default}, the default", "number")
    elif isinstance(kind, type):
        yield {int: "number", float: "number", str: "text", tuple: "list", NoneType: _ABSENT}[kind]
    else:
        yield _literal(kind)


def _word(value: Any, info: FieldInfo) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, tuple):
        return "list"
    if isinstance(value, bool):
        return _literal(value)
    if isinstance(value, int | float):
        is_default = type(info.default) in (int, float) and value == info.default
        words = [each for each in _alternatives(info.annotation) if each == value]
        return f"{info.default}, the default" if is_default else str([*words, "number"][0])
    return value if value in _alternatives(info.annotation) else "text"


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
