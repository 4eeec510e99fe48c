"""A whole network in the spec language: the sections of ``schema.py``, a name, and its places."""

from __future__ import annotations

import keyword
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.location import Location
from cliquegraph.spec.blocks import AnyBlock
from cliquegraph.spec.schema import (
    MAX_BLOCKS,
    MAX_READS,
    Classifier,
    Expect,
    Input,
    Path,
    Readout,
    SpecModel,
    Stem,
    Training,
    Transition,
    fault,
    set_by,
    together,
)

# What Python or pytest imports where it finds it, and our own package.
_IMPORTED = frozenset({"cliquegraph", "conftest", "sitecustomize", "usercustomize"})
_DEVICES = frozenset(
    {"aux", "con", "nul", "prn", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
FOLDED = "_inference"
"""How the name of a folded network's file ends."""

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
CLASS_PATTERN = r"^[A-Z][A-Za-z0-9]*$"

NONE = "none"
"""The word for a section that a network does without."""

_reserved = partial(fault, code=Code.RESERVED_NAME)


def _training_from_name(value: object) -> object:
    return {"recipe": value} if isinstance(value, str) else value


def _none_from_word(value: object) -> object:
    if value is None:
        raise fault(
            "expected a section, keys with their values, or 'none', found nothing",
            hint="give its keys, or remove the line",
        )
    return None if value == NONE else value


class _OrTheWordNone:
    """The JSON Schema of a section that may be the word none."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(schema)
        branches = [each for each in made["anyOf"] if each.get("type") != "null"]
        return {**made, "anyOf": [*branches, {"const": NONE}]}


class NetworkSpec(SpecModel):
    """A whole network, as ``cliquegraph.load`` returns it."""

    model_config = ConfigDict(defer_build=True)  # until the kinds of blocks can be loaded

    cliquegraph: Literal[1]
    """version of the spec language"""
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
    """names the generated file"""
    class_name: Annotated[str, Field(pattern=CLASS_PATTERN, max_length=100)] | None = None
    """names the generated class; default: the name in PascalCase"""
    input: Input
    """the images"""
    stem: Stem
    """from the image to X0 of the first block"""
    blocks: Annotated[
        tuple[AnyBlock, ...], Field(min_length=1, json_schema_extra={"maxItems": MAX_BLOCKS})
    ]
    """the blocks, first to last"""
    transition: Annotated[Transition | None, BeforeValidator(_none_from_word), _OrTheWordNone()] = (
        Transition()
    )
    """between every two blocks; none: what leaves a block is X0 of the next"""
    readout: Readout = Readout()
    """from the block features to one vector"""
    classifier: Classifier
    """from the vector to logits"""
    training: Annotated[Training | None, BeforeValidator(_training_from_name)] = None
    """the recipe that the network is trained with"""
    expect: Expect = Expect()
    """figures to compare with"""

    _positions: Mapping[Path, Location] = PrivateAttr(default_factory=dict)

    @field_validator("blocks", mode="before")
    @classmethod
    def _blocks_are_a_tuple(cls, blocks: object) -> object:
        if isinstance(blocks, list | tuple) and len(blocks) > MAX_BLOCKS:
            message = f"expected at most {MAX_BLOCKS} blocks, found {len(blocks)}"
            raise fault(message, code=Code.OVER_LIMIT, hint=set_by("MAX_BLOCKS"))
        return tuple(blocks) if isinstance(blocks, list) else blocks

    @field_serializer("transition")
    def _transition_as_written(self, transition: Transition | None) -> Transition | str:
        return NONE if transition is None else transition

    @field_validator("name")
    @classmethod
    def _name_can_be_imported(cls, name: str) -> str:
        if keyword.iskeyword(name):
            raise _reserved(
                f"{name!r} is a Python keyword, so the generated file can't be imported"
            )
        if name in sys.stdlib_module_names or name in _IMPORTED:
            raise _reserved(
                f"{name!r} is a module of Python's, which the generated file would hide"
            )
        if name in _DEVICES:
            raise _reserved(f"{name!r} is a device on Windows, so no file can have it")
        if name.endswith(FOLDED):
            raise _reserved(f"a name that ends in {FOLDED} is that of a folded network's file")
        return name

    @field_validator("class_name")
    @classmethod
    def _class_can_be_named(cls, name: str | None) -> str | None:
        if name is not None and keyword.iskeyword(name):
            raise _reserved(f"{name!r} is a Python keyword, so no class can have it")
        return name

    @model_validator(mode="after")
    def _whole_is_possible(self) -> Self:
        if faults := list(self._faults_of_the_whole()):
            raise together(faults)
        return self

    def _faults_of_the_whole(self) -> Iterator[PydanticCustomError]:
        reads = sum(block.reads for block in self.blocks)
        if reads > MAX_READS:
            count = "layers × layers × stages, summed over the blocks"
            message = f"{count}, must be at most {MAX_READS:,}; it is {reads:,}"
            yield fault(message, "blocks", code=Code.OVER_LIMIT, hint=set_by("MAX_READS"))
        if keyword.iskeyword(self.python_class):
            yield _reserved(f"the class would be {self.python_class}, so give a class_name", "name")

    def __eq__(self, other: object) -> bool:
        # Where a network was written down is no part of what it is.
        return isinstance(other, NetworkSpec) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.blocks))

    @property
    def python_class(self) -> str:
        """The name of the generated class."""
        return self.class_name or "".join(part.capitalize() for part in self.name.split("_"))

    def locate(self, *path: str | int) -> Location | None:
        """Return where the nearest enclosing part of ``path`` was written, if it is known."""
        for end in range(len(path), -1, -1):
            if found := self._positions.get(path[:end]):
                return found
        return None

    def with_positions(self, positions: Mapping[Path, Location]) -> Self:
        """Return the same network, knowing where each part was written."""
        copy: Any = self.model_copy()
        copy._positions = positions
        return copy  # type: ignore[no-any-return]  # mypy loses Self through Any
