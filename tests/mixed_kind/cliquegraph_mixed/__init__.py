"""``kind: mixed``: edges of one layer that differ, for tests of what a ``Block`` can say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cliquegraph.blocks.model import (
    Block,
    Conv,
    Layer,
    Norm,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Skip,
    Words,
)
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.schema import BlockSpec, Channels, up_to

Way = Literal["kernel", "small", "value", "rectified", "unit", "deep"]
WAYS: tuple[Way, ...] = ("kernel", "small", "value", "rectified", "unit", "deep")
LAYERS = ("none", "spatial", "skip", "two")


class MixedBlock(BlockSpec):
    """Layers that all read each other, by several ways."""

    kind: Literal["mixed"]
    """the kind of block"""
    layers: Annotated[int, up_to("MAX_LAYERS")]
    """the number of layers"""
    filters: Channels
    """the channels of each layer"""
    ways: tuple[Way, ...] = ("kernel",)
    """how a layer reads its sources, in turn, from the nearest below itself"""
    entry: Way = "unit"
    """how X0 is read"""
    every: bool = False
    """whether X0 is read in every stage"""
    itself: Way | None = None
    """how a layer reads its own last version"""
    combine: Literal["sum", "mean"] = "sum"
    """how what is read is put together"""
    ops: Literal["none", "spatial", "skip", "two"] = "none"
    """what a layer does with that"""
    stages: Annotated[int, Field(ge=1, le=4)] = 2
    """how often layers are updated"""
    simultaneous: bool = False
    """whether updates read the stage before"""
    norms: Literal["per_stage", "second", "shared"] = "per_stage"
    """whose normalizations a stage uses"""
    descending: bool = False
    """the order of visits"""
    stride: Annotated[int, Field(ge=1, le=2)] = 1
    """of the kernels that read X0"""

    @field_validator("ways", mode="before")
    @classmethod
    def _ways_are_a_tuple(cls, ways: object) -> object:
        return tuple(ways) if isinstance(ways, list) else ways

    @property
    def reads(self) -> int:
        """What the updates read."""
        return self.stages * (self.layers + 1) ** 2


def _way(name: Way, k: int, *, reduce: bool = False) -> Ops:
    wide, narrow = (Conv(size, k, reduce=reduce) for size in (3, 1))
    first, second = Conv(1, k, index=1, reduce=reduce), Conv(3, k, index=2)
    ways: dict[Way, Ops] = {
        "kernel": (Norm(), Relu(), wide),
        "small": (Norm(), Relu(), narrow),
        "value": (),
        "rectified": (Relu(),),
        "unit": (wide, Norm("unit_norm"), Relu()),
        "deep": (Norm(), first, Norm("inner"), Relu(), second),
    }
    return ways[name]


def _layer(name: str, k: int) -> Ops:
    first, second = (Conv(3, k, role="v", index=p) for p in (1, 2))
    ops: dict[str, Ops] = {
        "none": (),
        "spatial": (Norm("mid_norm"), Relu(), Conv(3, k, role="v")),
        "skip": (Skip((first, Norm("norm1"), Relu(), second, Norm("norm2"))), Relu()),
        "two": (Norm("norm1"), Relu(), first, Norm("norm2"), Relu(), second),
    }
    return ops[name]


def mixed(spec: MixedBlock) -> Block:
    """Return the block that these keys declare."""
    n, k = spec.layers, spec.filters
    numbers = tuple(range(1, n + 1))

    def reads(j: int) -> tuple[Read, ...]:
        ways = {i: spec.ways[(j - i) % n % len(spec.ways)] for i in numbers if i != j}
        if spec.itself is not None and spec.stages > 1:
            ways[j] = spec.itself
        return (
            Read(0, _way(spec.entry, k, reduce=spec.stride > 1), every_stage=spec.every),
            *(Read(i, _way(ways[i], k)) for i in sorted(ways)),
        )

    size = f"{n} layers × {k} filters"
    return Block(
        layers=tuple(
            Layer(reads(j), k, combine=spec.combine, ops=_layer(spec.ops, k)) for j in numbers
        ),
        schedule=Schedule(
            order=numbers[::-1] if spec.descending else numbers,
            updates=(n,) * spec.stages,
            simultaneous=spec.simultaneous,
        ),
        feature=Output(numbers, spec.stages, with_input=spec.stride == 1),
        transit=Output(numbers, spec.stages),
        words=Words(
            kind=spec.kind,
            title=f"Mixed block, {size}, {spec.stages} stages",
            size=size,
            unit="MixedUpdate",
            unit_doc="One update",
            short=(f"{spec.stages} stages",),
            unit_keys=(("filters", spec.filters), ("ways", spec.ways)),
        ),
        norms=spec.norms,
        stride=spec.stride,
    )


def _draw(rng: Random) -> Document:
    n = rng.integer(2, 4)
    return {
        "kind": "mixed",
        "layers": n,
        "filters": rng.integer(1, 3),
        "ways": [rng.one(WAYS) for _ in range(rng.integer(1, 3))],
        "entry": rng.one(("kernel", "small", "unit", "deep")),
        **rng.some(
            every=rng.holds(0.7),
            itself=rng.one(WAYS),
            combine=rng.one(("sum", "mean")),
            ops=rng.one(LAYERS),
            stages=rng.integer(1, 3),
            simultaneous=rng.holds(0.7),
            norms=rng.one(("per_stage", "second", "shared")),
            descending=rng.holds(0.7),
            stride=rng.integer(1, 2),
        ),
    }


KIND = Kind(MixedBlock, mixed, fuzzing=Fuzzing(_draw, counted=("stages",), weight=1))
