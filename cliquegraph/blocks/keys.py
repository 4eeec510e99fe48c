"""Sections that several kinds have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from cliquegraph.spec.schema import Rate, SpecModel, fault


def tuple_of(value: object) -> object:
    """Return a list as a tuple: a section is frozen."""
    return tuple(value) if isinstance(value, list) else value


def list_or_one(value: object) -> str:
    """Return the tag of a value that is a list, or a single one."""
    return "<list>" if isinstance(value, list | tuple) else "<one>"


class OutputKeys(SpecModel):
    """What leaves a block."""

    layers: Annotated[
        Annotated[Literal["all", "last", "sinks"], Tag("<one>")]
        | Annotated[tuple[int, ...], Tag("<list>")],
        Discriminator(list_or_one),
        BeforeValidator(tuple_of),
    ] = "all"
    """all layers, the last that is visited, those that no layer visited later reads, or a list"""
    input: bool = False
    """true: X0 comes first"""
    combine: Literal["concat", "mean"] = "concat"
    """their concatenation, in ascending order, or their mean"""


class JoinDropKeys(SpecModel):
    """Drop-path where a layer takes the mean of what it reads (FractalNet, ICLR 2017)."""

    local: Rate = 0.0
    """the probability that an operand is dropped; if all are, one of them remains"""


class FractalDropKeys(JoinDropKeys):
    """Drop-path of a fractal: local in some batches, global in the others."""

    model_config = ConfigDict(serialize_by_alias=True)  # a keyword names no field

    global_: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, alias="global")] = 0.0
    """the share of the batches that keep one column of the network"""


def _refuse_global(value: object) -> object:
    if isinstance(value, dict) and "global" in value:
        message = "a graph has no columns of which one could remain"
        hint = "use kind: fractal, or local alone"
        raise fault(message, "global", hint=hint)
    return value


LocalDrop = Annotated[JoinDropKeys, BeforeValidator(_refuse_global)]
"""Drop-path of joins outside a fractal."""
