"""Statistics of weights: of each tensor, and the strength of each connection in a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.edges import EdgeKernels, edge_kernels
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.transfer import Weights


@dataclass(frozen=True)
class Figures:
    """Statistics of one tensor; NaNs are counted, and excluded from the other statistics."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    mean: float
    std: float
    min: float
    max: float
    nan: int


def describe(weights: Weights) -> Iterator[Figures]:
    """Yield the statistics of each canonical tensor, in the network's order, read one by one."""
    for name in weights:
        info, array = weights.info(name), weights[name].astype(np.float64)
        values = array[~np.isnan(array)]
        mean = std = low = high = float("nan")
        if values.size:
            with np.errstate(invalid="ignore"):  # the mean of infinities of both signs
                mean, std = float(values.mean()), float(values.std())
            low, high = float(values.min()), float(values.max())
        nan = array.size - values.size
        yield Figures(name, info.dtype, info.shape, mean, std, low, high, nan)


@dataclass(frozen=True)
class Strengths:
    """Mean |W(i→j)| of one block (Figure 5 of the paper).

    Attributes:
        block: from 1.
        kind: the block's kind.
        values: (n + 1, n); row i is the source, 0 the block's input; column j - 1 the layer that
            reads it. NaN where there is no connection.
    """

    block: int
    kind: str
    values: Array


def strengths(network: NetworkSpec, graph: Graph, weights: Weights) -> list[Strengths]:
    """Return the strength of each connection of each block.

    Args:
        network: the network.
        graph: the network as lowered.
        weights: its canonical tensors.

    Raises:
        WeightsError: a kernel holds NaN or infinity.
    """
    return [
        Strengths(index, network.blocks[index - 1].kind, _means(kernels, weights))
        for index, kernels in edge_kernels(graph).items()
    ]


def _means(kernels: EdgeKernels, weights: Weights) -> Array:
    layers = max(layer for _, layer in kernels)
    values = np.full((layers + 1, layers), np.nan)
    for (source, layer), piece in kernels.items():
        name = tensor_name(piece.tensor)
        part = weights[name][:, piece.start : piece.stop].astype(np.float64)
        if not np.isfinite(part).all():
            raise WeightsError(f"{weights.place}: {name} holds NaN or infinity")
        values[source, layer - 1] = np.abs(part).mean()
    return values
