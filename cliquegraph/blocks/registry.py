"""From the block sections of a spec to blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cliquegraph.blocks.model import Block, Ops, Skip
from cliquegraph.blocks.rules import impossible_in
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.kinds import kinds
from cliquegraph.spec.schema import BlockSpec


def blocks_of(specs: Sequence[BlockSpec]) -> tuple[Block, ...]:
    """Return the blocks that a network's kinds declare.

    Skips with drop-path are numbered across blocks: their rates depend on their position.

    Raises:
        UsageError: a kind returns what no block can be.
    """
    blocks = [kinds()[spec.kind].block(spec) for spec in specs]
    for index, (spec, block) in enumerate(zip(specs, blocks, strict=True), start=1):
        if fault := next(impossible_in(block), None):
            raise UsageError(f"block {index}: the kind {spec.kind!r} has an error: {fault}")
    shares = {drop.global_ for b in blocks for each in b.layers if (drop := each.join_drop)}
    if len(shares - {0.0}) > 1:
        raise UsageError("blocks keep one column in different shares of the batches")
    units = sum(isinstance(op, Skip) and op.drop is not None for b in blocks for op in b.ops)
    numbers = iter(range(1, units + 1))
    return (
        tuple(_number_drop_paths(block, numbers, units) for block in blocks)
        if units
        else tuple(blocks)
    )


def _number_drop_paths(block: Block, numbers: Iterator[int], units: int) -> Block:
    """The block with a number for each of its skips with drop-path."""

    def number(ops: Ops) -> Ops:
        return tuple(number_skip(op) if isinstance(op, Skip) else op for op in ops)

    def number_skip(skip: Skip) -> Skip:
        drop = skip.drop and replace(skip.drop, unit=next(numbers), units=units)
        return replace(skip, drop=drop, branch=number(skip.branch))

    layers = tuple(
        replace(
            layer,
            reads=tuple(replace(read, ops=number(read.ops)) for read in layer.reads),
            ops=number(layer.ops),
        )
        for layer in block.layers
    )
    return replace(block, layers=layers)
