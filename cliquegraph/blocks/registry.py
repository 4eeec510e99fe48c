"""From what a spec says of a block to the block."""

from __future__ import annotations

from cliquegraph.blocks.model import Block
from cliquegraph.plugins.kinds import kinds
from cliquegraph.spec.schema import BlockSpec


def block_of(spec: BlockSpec) -> Block:
    """Return the block that a kind's keys declare."""
    return kinds()[spec.kind].block(spec)
