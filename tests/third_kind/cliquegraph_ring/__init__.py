"""``kind: ring``: layers on a circle, each of which reads its two neighbors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cliquegraph.blocks.model import (
    Block,
    Conv,
    Layer,
    Norm,
    Output,
    Read,
    Relu,
    Schedule,
    Words,
)
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.schema import BlockSpec, Channels, OddKernel, impossible, up_to


class RingBlock(BlockSpec):
    """A ring: each layer reads its two neighbors, odd layers are updated before even ones."""

    kind: Literal["ring"]
    """the kind of block"""
    layers: Annotated[int, up_to("MAX_LAYERS")]
    """n, the number of layers X1..Xn"""
    filters: Channels
    """k, the channels of each layer"""
    kernel: OddKernel = 3
    """size of the kernels"""
    stages: Annotated[int, Field(ge=1, le=8)] = 2
    """how many times the layers are visited; stage 1 initializes them from X0"""
    input: Literal["first", "every"] = "first"
    """the stages that read X0"""

    @model_validator(mode="after")
    def _layers_have_neighbors(self) -> Self:
        if self.layers < 2:
            raise impossible("must be at least 2: a layer has a neighbor", "layers")
        return self

    @property
    def reads(self) -> int:
        """Two neighbors and X0 for each update."""
        return 3 * self.layers * self.stages


def ring(spec: RingBlock) -> Block:
    """Return the block that a ring's keys declare."""
    n = spec.layers
    numbers = tuple(range(1, n + 1))
    edge = (Norm(), Relu(), Conv(spec.kernel, spec.filters))
    size = f"{n} layers × {spec.filters} filters"
    return Block(
        layers=tuple(
            Layer(
                reads=(
                    Read(0, edge, every_stage=spec.input == "every"),
                    *(Read(i, edge) for i in sorted({(j - 2) % n + 1, j % n + 1})),
                ),
                filters=spec.filters,
            )
            for j in numbers
        ),
        schedule=Schedule(order=(*numbers[::2], *numbers[1::2]), updates=(n,) * spec.stages),
        feature=Output(numbers, spec.stages, with_input=True),
        transit=Output(numbers, spec.stages),
        words=Words(
            kind=spec.kind,
            title=f"Ring, {size}, {spec.stages} stages",
            size=size,
            unit="RingUpdate",
            unit_doc="One update of a ring",
            short=(f"{spec.stages} stages",),
            unit_keys=(("filters", spec.filters), ("kernel", spec.kernel)),
        ),
    )


def _draw(rng: Random) -> Document:
    return {
        "kind": "ring",
        "layers": rng.integer(2, 5),
        "filters": rng.integer(1, 3),
        **rng.some(
            kernel=rng.one((1, 3)), stages=rng.integer(1, 3), input=rng.one(("first", "every"))
        ),
    }


def _smaller(block: Document) -> Iterator[Document]:
    """One stage fewer, also if ``stages`` is the default of 2."""
    stages = block.get("stages", 2)
    if stages > 1:
        yield {**block, "stages": stages - 1}


KIND = Kind(RingBlock, ring, fuzzing=Fuzzing(_draw, smaller=_smaller, counted=("stages",)))
