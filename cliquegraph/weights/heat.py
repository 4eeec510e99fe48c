"""The strengths of a network's connections, for heat maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.describe import Strengths, strengths
from cliquegraph.weights.read import open_weights


@dataclass(frozen=True)
class NetworkHeat:
    """The strengths of the blocks of one network, with its name."""

    title: str
    blocks: Sequence[Strengths]

    def caption(self, block: Strengths) -> str:
        """Return the caption of one of its blocks."""
        return f"{self.title}, block {block.block} ({block.kind})"


def network_heat(
    network: NetworkSpec,
    path: str | os.PathLike[str],
    block: int | None = None,
    *,
    format: str | None = None,
    ignore_digest: bool = False,
) -> NetworkHeat:
    """Return the strength of each connection of a network: Figure 5 of the paper.

    Args:
        network: the network.
        path: its weights, in any format.
        block: one block, from 1; None for all.
        format: the file's format; default: from its metadata, or inferred from its tensors.
        ignore_digest: accept matching tensors from a file for another network.

    Raises:
        WeightsError: the weights are not for this network, or hold NaN.
        UsageError: there is no such block.
    """
    if block is not None and not 1 <= block <= len(network.blocks):
        raise UsageError(f"{network.name} has blocks 1 to {len(network.blocks)}, not {block}")
    with open_weights(network, path, format, ignore_digest=ignore_digest) as weights:
        blocks = strengths(network, weights.format.graph, weights)
    selected = [each for each in blocks if block in (None, each.block)]
    return NetworkHeat(network.name, selected)
