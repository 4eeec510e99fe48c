"""What surrounds the blocks: stem, transitions, readout; by standard keys or by lists of ops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import CoreSchema

from cliquegraph.spec.ops import ConvOp, OpList, SkipOp, walk
from cliquegraph.spec.schema import Factor, Rate, SpecModel, Stem, Transition, fault, together

NONE = "none"
"""The word for an omitted section."""


def _faults(ops: OpList) -> Iterator[PydanticCustomError]:
    for path, op in walk(ops):
        if isinstance(op, SkipOp) and op.drop_path is not None:
            yield fault("only a block has drop-path", *path, "drop_path", hint="remove it")
        if not isinstance(op, ConvOp):
            continue
        if op.filters is None and not op.depthwise:
            message = "outside a block, a convolution needs its number of filters"
            hint = f"write {{conv: {op.conv}, filters: 64}}"
            yield fault(message, *path, "filters", hint=hint)
        if isinstance(op.filters, str):
            message = "outside a block, there is no layer whose filters could be multiplied"
            yield fault(message, *path, "filters", hint="write a number")
        if op.reduce:
            message = "outside a block, there is no stride of the block"
            yield fault(message, *path, "reduce", hint="write its stride, such as stride: 2")


def _outside_blocks(ops: OpList) -> OpList:
    if faults := list(_faults(ops)):
        raise together(faults)
    return ops


BoundaryOps = Annotated[OpList, AfterValidator(_outside_blocks)]


class OpsSection(SpecModel):
    """A list of ops."""

    ops: BoundaryOps
    """the ops, in order; each convolution names its filters"""


def _none_from_word(value: object) -> object:
    if value is None:
        raise fault(
            "expected a section (keys with values), or 'none', found nothing",
            hint="write its keys, or remove the line",
        )
    return None if value == NONE else value


class _OrTheWordNone:
    """The JSON Schema of a section that may also be the word ``none``."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema_of_section = handler(schema)
        branches = [
            branch
            for each in schema_of_section["anyOf"]
            if each.get("type") != "null"
            for branch in each.get("oneOf", (each,))
        ]
        return {**schema_of_section, "anyOf": [*branches, {"const": NONE}]}


def _form(value: object) -> str:
    if isinstance(value, list | tuple):
        return "<list>"
    is_ops = isinstance(value, OpsSection) or (isinstance(value, dict) and "ops" in value)
    return "<ops>" if is_ops else "<keys>"


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


AnyStem = Annotated[
    Annotated[
        Annotated[OpsSection, Tag("<ops>")] | Annotated[Stem, Tag("<keys>")], Discriminator(_form)
    ]
    | None,
    BeforeValidator(_none_from_word),
    _OrTheWordNone(),
]
_OneTransition = Annotated[
    Annotated[
        Annotated[OpsSection, Tag("<ops>")] | Annotated[Transition, Tag("<keys>")],
        Discriminator(lambda value: "<keys>" if _form(value) == "<list>" else _form(value)),
    ]
    | None,
    BeforeValidator(_none_from_word),
    _OrTheWordNone(),
]
AnyTransition = Annotated[
    Annotated[
        Annotated[OpsSection, Tag("<ops>")]
        | Annotated[Transition, Tag("<keys>")]
        | Annotated[tuple[_OneTransition, ...], BeforeValidator(_tuple), Tag("<list>")],
        Discriminator(_form),
    ]
    | None,
    BeforeValidator(_none_from_word),
    _OrTheWordNone(),
]


def as_written(value: Any) -> Any:
    """Return a boundary as a spec writes it: the word for one that is left out."""
    if isinstance(value, tuple):
        return [as_written(each) for each in value]
    return NONE if value is None else value


class Readout(SpecModel):
    """From block features to the classifier: [compression], BN, ReLU, global average pool."""

    blocks: Literal["all", "last"] = "all"
    """the blocks whose features are read: multi-scale (section 3.2), or DenseNet's last"""
    stages: Literal["last", "all"] = "last"
    """the stages in which the feature is read; all: logits of each, by the same weights"""
    norms: Literal["per_stage", "shared"] | None = None
    """whose normalizations a stage of stages: all uses; default: per_stage"""
    compression: Factor | None = None
    """first BN, ReLU and a 1×1 convolution to this fraction of the channels, rounded down"""
    dropout: Rate = 0.0
    """dropout rate after the convolution of the compression"""
    norm: bool = True
    """BN and ReLU before the global pool; false: neither"""
    ops: BoundaryOps | None = None
    """ops before the global pool, in place of compression, dropout and norm"""
    pool: Literal["avg", "max"] = "avg"
    """the global pool: the mean of each map, or its maximum"""

    @property
    def over_time(self) -> bool:
        """Whether the feature of every stage is read."""
        return self.stages == "all"

    @property
    def is_staged(self) -> bool:
        """Whether each stage has its own normalizations."""
        return self.over_time and self.norms != "shared"

    @model_validator(mode="after")
    def _reads_stages_of_one_block(self) -> Self:
        if self.over_time and self.blocks == "all":
            message = "all stages can be read of the last block alone"
            raise fault(message, "stages", hint="write blocks: last beside it")
        if self.norms is not None and not self.over_time:
            message = "without stages: all, there is one stage"
            raise fault(message, "norms", hint="remove it, or write stages: all beside it")
        return self

    @model_validator(mode="after")
    def _compresses_what_is_normalized(self) -> Self:
        if self.ops is not None:
            others = {"compression": None, "dropout": 0.0, "norm": True}
            for key in (key for key, default in others.items() if getattr(self, key) != default):
                hint = "write it as one of the ops" if key != "norm" else "remove it"
                raise fault("can't be combined with ops, which replace it", key, hint=hint)
        if self.compression is not None and not self.norm:
            raise fault(
                "can't be combined with norm: false, which goes straight to the global pool",
                "compression",
                hint="remove one of the two",
            )
        return self
