"""How strong the connections of a network are, for pictures."""

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
    """The blocks of one network, and what it is called."""

    title: str
    blocks: Sequence[Strengths]

    def caption(self, block: Strengths) -> str:
        """What one of its blocks is called."""
        return f"{self.title}, block {block.block} ({block.kind})"


def network_heat(
    network: NetworkSpec,
    path: str | os.PathLike[str],
    block: int | None = None,
    *,
    format: str | None = None,
    ignore_digest: bool = False,
) -> NetworkHeat:
    """Return how strong each connection of a network is: Figure 5 of the paper.

    Args:
        network: the network.
        path: its weights, in any format.
        block: one block, from 1; None for all.
        format: the file's; default: what it says, or what its tensors fit.
        ignore_digest: take tensors that fit although the file is for another network.

    Raises:
        WeightsError: the weights are not of this network, or hold NaN.
        UsageError: there is no such block.
    """
    if block is not None and not 1 <= block <= len(network.blocks):
        raise UsageError(f"{network.name} has blocks 1 to {len(network.blocks)}, not {block}")
    with open_weights(network, path, format, ignore_digest=ignore_digest) as weights:
        found = strengths(network, weights.format.graph, weights)
    wanted = [each for each in found if block in (None, each.block)]
    return NetworkHeat(network.name, wanted)
