"""From what a spec says of a block to the block."""

from __future__ import annotations

from functools import singledispatch

from cliquegraph.blocks.clique import clique
from cliquegraph.blocks.dense import dense
from cliquegraph.blocks.model import Block
from cliquegraph.blocks.residual import residual
from cliquegraph.spec.schema import CliqueBlock, DenseBlock, ResidualBlock


@singledispatch
def block_of(spec: object) -> Block:
    """Return the block that a kind's keys declare."""
    raise TypeError(f"no kind of block is declared by {type(spec).__name__}")


block_of.register(CliqueBlock)(clique)
block_of.register(DenseBlock)(dense)
block_of.register(ResidualBlock)(residual)
