"""A network in the spec language: the sections of ``schema.py``, a name, and locations."""

from __future__ import annotations

import keyword
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.location import Location
from cliquegraph.plugins.kinds import default_kind
from cliquegraph.plugins.notebook import Html, notebook
from cliquegraph.spec.blocks import AnyBlock
from cliquegraph.spec.boundaries import NONE, AnyStem, AnyTransition, Readout, as_written
from cliquegraph.spec.schema import (
    MAX_BLOCKS,
    MAX_READS,
    Classifier,
    Expect,
    Input,
    Path,
    SpecModel,
    Training,
    Transition,
    fault,
    set_by,
    together,
)

# Modules that Python or pytest imports from the current directory, and our own package.
_IMPORTED = frozenset({"cliquegraph", "conftest", "sitecustomize", "usercustomize"})
_DEVICES = frozenset(
    {"aux", "con", "nul", "prn", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
FOLDED = "_inference"
"""The suffix of the names of folded networks' files."""

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
CLASS_PATTERN = r"^[A-Z][A-Za-z0-9]*$"

_reserved = partial(fault, code=Code.RESERVED_NAME)


def _training_from_name(value: object) -> object:
    return {"recipe": value} if isinstance(value, str) else value


class NetworkSpec(SpecModel):
    """A whole network, as ``cliquegraph.load`` returns it."""

    _load: ClassVar[Callable[[Mapping[str, Any]], NetworkSpec]]
    """``cliquegraph.load``, which its module sets here: it imports this one."""

    model_config = ConfigDict(defer_build=True)  # until the kinds of blocks can be loaded

    def __init__(self, /, **keys: Any) -> None:
        """Validate keys, as ``cliquegraph.load`` does those of a dictionary.

        Raises:
            SpecError: they declare no network; holds every error in them.
        """
        try:
            super().__init__(**keys)
        except ValidationError:
            # Either raises errors that name the keys, or adds what a spec may omit.
            super().__init__(**type(self)._load(keys).to_data())

    # Validation of data itself, as by load, does not call the method above.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    cliquegraph: Literal[1]
    """version of the spec language"""
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
    """name of the generated file"""
    class_name: Annotated[str, Field(pattern=CLASS_PATTERN, max_length=100)] | None = None
    """name of the generated class; default: the network's name in PascalCase"""
    input: Input
    """the images"""
    stem: AnyStem
    """from the image to X0 of the first block; none: the image is X0"""
    blocks: Annotated[
        tuple[AnyBlock, ...], Field(min_length=1, json_schema_extra={"maxItems": MAX_BLOCKS})
    ]
    """the blocks, first to last"""
    transition: AnyTransition = Transition()
    """between consecutive blocks, or a list of one for each boundary; none: a block's output is X0
    of the next"""
    readout: Readout = Readout()
    """from the block features to one vector"""
    classifier: Classifier
    """from the vector to logits"""
    training: Annotated[Training | None, BeforeValidator(_training_from_name)] = None
    """the training recipe"""
    expect: Expect = Expect()
    """the network's expected figures"""

    _positions: Mapping[Path, Location] = PrivateAttr(default_factory=dict)

    @field_validator("blocks", mode="before")
    @classmethod
    def _blocks_are_a_tuple(cls, blocks: object) -> object:
        if isinstance(blocks, list | tuple) and len(blocks) > MAX_BLOCKS:
            message = f"expected at most {MAX_BLOCKS} blocks, found {len(blocks)}"
            raise fault(message, code=Code.OVER_LIMIT, hint=set_by("MAX_BLOCKS"))
        if not isinstance(blocks, list | tuple):
            return blocks
        return tuple(
            {"kind": default_kind(), **block} if isinstance(block, dict) else block
            for block in blocks
        )

    @field_serializer("stem", "transition")
    def _none_as_written(self, boundary: Any) -> Any:
        return as_written(boundary)

    @field_validator("name")
    @classmethod
    def _name_can_be_imported(cls, name: str) -> str:
        if keyword.iskeyword(name):
            raise _reserved(
                f"{name!r} is a Python keyword, so the generated file can't be imported"
            )
        if name in sys.stdlib_module_names or name in _IMPORTED:
            raise _reserved(f"{name!r} is a Python module, which the generated file would shadow")
        if name in _DEVICES:
            raise _reserved(f"{name!r} is a device name on Windows and can't name a file")
        if name.endswith(FOLDED):
            raise _reserved(f"names that end in {FOLDED} are reserved for folded networks' files")
        return name

    @field_validator("class_name")
    @classmethod
    def _class_can_be_named(cls, name: str | None) -> str | None:
        if name is not None and keyword.iskeyword(name):
            raise _reserved(f"{name!r} is a Python keyword and can't name a class")
        return name

    @model_validator(mode="after")
    def _whole_is_possible(self) -> Self:
        if errors := list(self._errors_of_the_whole()):
            raise together(errors)
        return self

    def _errors_of_the_whole(self) -> Iterator[PydanticCustomError]:
        between = len(self.blocks) - 1
        if isinstance(self.transition, tuple) and len(self.transition) != between:
            message = f"expected one for each pair of consecutive blocks, {between}, "
            yield fault(f"{message}found {len(self.transition)}", "transition")
        if self.training and self.training.stage_weights and not self.readout.over_time:
            message = "the readout reads one stage alone"
            hint = "remove them, or write readout: {blocks: last, stages: all}"
            yield fault(message, "training", "stage_weights", hint=hint)
        reads = sum(block.reads for block in self.blocks)
        if reads > MAX_READS:
            count = "the features that updates read, summed over the blocks"
            message = f"{count}, must be at most {MAX_READS:,}; it is {reads:,}"
            yield fault(message, "blocks", code=Code.OVER_LIMIT, hint=set_by("MAX_READS"))
        yield from self._errors_of_columns()
        if keyword.iskeyword(self.python_class):
            message = (
                f"the class would be named {self.python_class}, a Python keyword: set class_name"
            )
            yield _reserved(message, "name")

    def _errors_of_columns(self) -> Iterator[PydanticCustomError]:
        shares = [(b, each) for b, block in enumerate(self.blocks) if (each := block.column_share)]
        for b, (share, path) in shares[1:]:
            first, (usual, _) = shares[0]
            if share != usual:
                message = f"expected {usual:g}, as in block {first + 1}, found {share:g}"
                hint = "one column is drawn for the whole network: use one share, or 0"
                yield fault(message, "blocks", b, *path, hint=hint)

    def __eq__(self, other: object) -> bool:
        # Locations are not part of a network's identity.
        return isinstance(other, NetworkSpec) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.blocks))

    def __repr__(self) -> str:
        kinds = dict.fromkeys(block.kind for block in self.blocks)
        count = f"{len(self.blocks)} {'/'.join(kinds)} block{'s' * (len(self.blocks) > 1)}"
        image = self.input
        size = f"{image.channels}×{image.height}×{image.width}"
        return f"<NetworkSpec {self.name}: {count}, {size} → {self.classifier.classes} classes>"

    __str__ = __repr__

    def _repr_html_(self) -> Html:
        return notebook().network_html(self)

    @property
    def python_class(self) -> str:
        """The name of the generated class."""
        return self.class_name or "".join(part.capitalize() for part in self.name.split("_"))

    def to_data(self) -> dict[str, Any]:
        """Return the spec as plain data, which ``loads`` reads as an equal network from JSON."""
        data = self.model_dump(mode="json", exclude_none=True)
        # Pydantic leaves out a section that is None before it would write its word.
        left_out = {name: NONE for name in ("stem", "transition") if getattr(self, name) is None}
        return {**data, **left_out}

    def locate(self, *path: str | int) -> Location | None:
        """Return the location of the nearest enclosing part of ``path``, if known."""
        for end in range(len(path), -1, -1):
            if location := self._positions.get(path[:end]):
                return location
        return None

    def with_positions(self, positions: Mapping[Path, Location]) -> Self:
        """Return the same network with the location of each part."""
        copy: Any = self.model_copy()
        copy._positions = positions
        return copy  # type: ignore[no-any-return]  # mypy loses Self through Any
