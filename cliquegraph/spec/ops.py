"""Lists of ops: what an edge does to what it reads, what a layer does to the sum, and boundaries.

An op is a word (``relu``) or a section whose first key names it (``{conv: 3, filters: 64}``).
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from cliquegraph.diagnostics.codes import Code
from cliquegraph.spec.schema import (
    Channels,
    Kernel,
    OddKernel,
    Path,
    Rate,
    SpecModel,
    fault,
    set_by,
    together,
)
from cliquegraph.spec.wording import describe_value, listing

MAX_OPS = 256
MAX_NESTING = 8

TIMES_PATTERN = r"^x[1-9][0-9]?$"

Word = Literal["norm", "relu", "bias", "gate"]
Times = Annotated[str, Field(pattern=TIMES_PATTERN)]


def _width_form(value: object) -> str:
    return "<times>" if isinstance(value, str) else "<filters>"


class ConvOp(SpecModel):
    """A convolution, padded by half of its kernel."""

    conv: OddKernel
    """size of the kernel"""
    filters: (
        Annotated[
            Annotated[Channels, Tag("<filters>")] | Annotated[Times, Tag("<times>")],
            Discriminator(_width_form),
        ]
        | None
    ) = None
    """output channels: a number, or x4 for four times the layer's filters; default: the layer's"""
    stride: Kernel = 1
    """stride of the convolution"""
    reduce: bool = False
    """true: it has the block's stride, in the stages in which the layer reads X0"""
    bias: bool = False
    """true: a learned number for each output channel is added"""
    depthwise: bool = False
    """true: one kernel for each channel, which keeps the channels that it reads"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        errors = []
        if self.depthwise and self.filters is not None:
            message = "a depthwise convolution keeps the channels that it reads"
            errors.append(fault(message, "filters", hint="remove filters, or depthwise"))
        if self.reduce and self.stride != 1:
            message = "a convolution with reduce has the block's stride, and none of its own"
            errors.append(fault(message, "stride", hint="remove stride, or reduce"))
        if errors:
            raise together(errors)
        return self


class GroupNormOp(SpecModel):
    """Group normalization."""

    group_norm: Channels
    """groups of channels, each normalized by its own moments in each image"""


class LocalResponseKeys(SpecModel):
    """x / (1 + alpha / size × sum of squares)^beta, over the channels around each."""

    size: Channels
    """how many channels, this one among them"""
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """factor of the mean of the squares"""
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """exponent"""


class LocalResponseOp(SpecModel):
    """Local response normalization across channels."""

    local_response: LocalResponseKeys
    """size, alpha and beta"""


class MaxPoolOp(SpecModel):
    """The maximum of each window."""

    max_pool: Kernel
    """size of the window"""
    stride: Kernel | None = None
    """stride of the window; default: its size"""
    pad: Annotated[int, Field(ge=0)] = 0
    """rows and columns around the map; at most half of the window"""

    @model_validator(mode="after")
    def _windows_are_inside(self) -> Self:
        if self.pad > self.max_pool // 2:
            message = f"must be at most half of the window, {self.max_pool // 2}"
            raise fault(message, "pad")
        return self


class AvgPoolOp(SpecModel):
    """The mean of each window."""

    avg_pool: Kernel
    """size of the window"""
    stride: Kernel | None = None
    """stride of the window; default: its size"""


class UpsampleOp(SpecModel):
    """Larger maps, by the nearest pixel."""

    upsample: Kernel
    """factor of height and width"""


class DropoutOp(SpecModel):
    """Dropout."""

    dropout: Rate
    """the probability that an element is set to 0 in training"""


class DropPathKeys(SpecModel):
    """Stochastic depth: in training, the branches of units are dropped at random.

    Unit l of the network's L units is dropped at a rate of l / L × last.
    """

    last: Rate
    """the rate of the last unit of the network"""
    per: Literal["batch", "image"] = "batch"
    """one draw for the batch, or for each image; a unit that is dropped for a whole batch
    updates no running statistics"""
    scale: Literal["evaluation", "training"] = "evaluation"
    """where branches are scaled: by 1 - rate in evaluation, or by 1 / (1 - rate) in training"""


class SkipOp(SpecModel):
    """x + the ops of a branch, applied to x."""

    skip: tuple[AnyOp, ...]
    """the ops of the branch"""
    shortcut: Annotated[
        Annotated[Literal["projection", "pad"], Tag("<word>")]
        | Annotated[tuple[()], Tag("<none>"), Field(json_schema_extra={"maxItems": 0})],
        Discriminator(lambda value: "<none>" if isinstance(value, list | tuple) else "<word>"),
    ] = "projection"
    """where channels or sizes differ: 1×1 convolution and BN, or average pool and zero-padded
    channels; []: they must not differ"""
    drop_path: DropPathKeys | None = None
    """stochastic depth (Huang et al., ECCV 2016)"""

    @field_validator("skip", "shortcut", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("skip")
    @classmethod
    def _has_a_branch(cls, branch: tuple[AnyOp, ...]) -> tuple[AnyOp, ...]:
        if not branch:
            raise fault("expected the ops of a branch, found none")
        return branch


_SECTIONS: tuple[type[SpecModel], ...] = (
    ConvOp,
    GroupNormOp,
    LocalResponseOp,
    MaxPoolOp,
    AvgPoolOp,
    UpsampleOp,
    DropoutOp,
    SkipOp,
)
_HEADS = tuple(next(iter(section.model_fields)) for section in _SECTIONS)
_NAMES = (*get_args(Word), *_HEADS)


def _form(value: object) -> str | None:
    """The tag of an op: its word, or the first key of its section."""
    if isinstance(value, SpecModel):
        return f"<{next(iter(type(value).model_fields))}>"
    if isinstance(value, dict):
        return next((f"<{head}>" for head in _HEADS if head in value), None)
    return "<word>"


def _is_op(value: object) -> object:
    if isinstance(value, SpecModel) or value in get_args(Word):
        return value
    if isinstance(value, str | dict):
        names = [value] if isinstance(value, str) else list(value)
        if isinstance(value, dict) and _form(value):
            return value
        known = [name for name in names if name in _HEADS]
        if known:
            raise fault(f"expected a section, {{{known[0]}: …}}, found {describe_value(value)}")
        for name in names:
            if close := get_close_matches(str(name), _NAMES, 1):
                shown = close[0] if close[0] not in _HEADS else f"{{{close[0]}: …}}"
                raise fault(f"no op is named {describe_value(name)}", hint=f"did you mean {shown}?")
        hint = f"ops are {listing(_NAMES)}"
        what = describe_value(names[0]) if names else "nothing"
        raise fault(f"expected an op, found {what}", hint=hint)
    raise fault(
        f"expected an op, found {describe_value(value)}",
        hint=f"ops are {listing(_NAMES)}",
    )


AnyOp = Annotated[
    Annotated[
        Word,
        Tag("<word>"),
        Field(
            description="norm: batch normalization; relu; bias: a learned number for each channel "
            "is added; gate: times σ(w), w one learned number"
        ),
    ]
    | Annotated[ConvOp, Tag("<conv>")]
    | Annotated[GroupNormOp, Tag("<group_norm>")]
    | Annotated[LocalResponseOp, Tag("<local_response>")]
    | Annotated[MaxPoolOp, Tag("<max_pool>")]
    | Annotated[AvgPoolOp, Tag("<avg_pool>")]
    | Annotated[UpsampleOp, Tag("<upsample>")]
    | Annotated[DropoutOp, Tag("<dropout>")]
    | Annotated[SkipOp, Tag("<skip>")],
    Discriminator(_form),
    BeforeValidator(_is_op),
]
SkipOp.model_rebuild()


def walk(ops: tuple[AnyOp, ...], path: Path = ()) -> Iterator[tuple[Path, AnyOp]]:
    """Yield ops and those nested in them, in order, each with its path."""
    for place, op in enumerate(ops):
        yield (*path, place), op
        if isinstance(op, SkipOp):
            yield from walk(op.skip, (*path, place, "skip"))


def _as_tuple(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(value)
    hint = "[] stands for the value itself"
    if isinstance(value, str | dict):
        hint = "put the op in brackets"
    raise fault(f"expected a list of ops, found {describe_value(value)}", hint=hint)


def _check(ops: tuple[AnyOp, ...]) -> tuple[AnyOp, ...]:
    """Check what holds for every list of ops."""
    every = list(walk(ops))
    if len(every) > MAX_OPS:
        message = f"expected at most {MAX_OPS} ops, found {len(every)}"
        raise fault(message, code=Code.OVER_LIMIT, hint=set_by("MAX_OPS", __name__))
    for path, _ in every:
        if path.count("skip") > MAX_NESTING:
            message = f"skips are nested deeper than {MAX_NESTING} levels"
            hint = set_by("MAX_NESTING", __name__)
            raise fault(message, *path, code=Code.OVER_LIMIT, hint=hint)
    reduces = [path for path, op in every if isinstance(op, ConvOp) and op.reduce]
    if len(reduces) > 1:
        message = "two convolutions of one list can't both have the block's stride"
        raise fault(message, *reduces[1], "reduce", hint="let one of them reduce")
    return ops


OpList = Annotated[tuple[AnyOp, ...], BeforeValidator(_as_tuple), AfterValidator(_check)]
"""The ops of an edge, of a layer, or between blocks; they are applied in order."""


def format_ops(ops: tuple[AnyOp, ...]) -> str:
    """Return a list of ops as a spec writes it.

    >>> format_ops(("norm", "relu", ConvOp(conv=3)))
    '[norm, relu, {conv: 3}]'
    """
    return f"[{', '.join(map(_format_value, ops))}]"


def _format_value(value: object) -> str:
    if isinstance(value, SpecModel):
        keys = value.model_dump(exclude_defaults=True).keys()
        return f"{{{', '.join(f'{key}: {_format_value(getattr(value, key))}' for key in keys)}}}"
    if isinstance(value, tuple):
        return format_ops(value)
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
