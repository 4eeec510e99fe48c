"""The public names and their signatures: ``api.txt`` is changed on purpose or not at all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path

from pydantic import BaseModel

import cliquegraph

GOLDEN = Path(__file__).parent / "api.txt"


def lines() -> Iterator[str]:
    for name in sorted(vars(cliquegraph)):
        value = getattr(cliquegraph, name)
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if not inspect.isclass(value):
            yield f"{name}{signature(value)}"
            continue
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        yield from (f"    {member}" for member in members(value))


def members(value: type) -> Iterator[str]:
    """Fields in their order, then what else a class has that is public."""
    if issubclass(value, BaseModel):
        yield from value.model_fields  # their types are the JSON Schema's
    elif issubclass(value, Enum):
        yield from (f"{member.name} = {member}" for member in value)
    elif is_dataclass(value):
        yield from (f"{name}: {field.type}" for name, field in value.__dataclass_fields__.items())
    for name, member in sorted(vars(value).items()):
        if name.startswith(("_", "model_")):
            continue
        if inspect.isfunction(member):
            yield f"{name}{signature(member)}"
        elif isinstance(member, property) or type(member).__name__ == "cached_property":
            yield f"{name} (property)"


def signature(function: Callable[..., object]) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(function))).replace("'", "")


def test_the_api_is_the_listed_one() -> None:
    """After a change that is meant: write what is printed to api.txt, and say so in the log."""
    found = "\n".join(lines()) + "\n"
    assert found == GOLDEN.read_text(encoding="utf-8"), found
