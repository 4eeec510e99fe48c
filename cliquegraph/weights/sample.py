"""Random canonical tensors, for verification."""

from __future__ import annotations

import numpy as np

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array, agree
from cliquegraph.ir.types import Field, Tensor


def sample_tensors(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Draw random values for every canonical tensor of a network, float64.

    Kernels have the variance of their initialization. Scales, biases and running statistics are
    random too, since at their initial 1 and 0 a mix-up of them would go unnoticed. Running
    statistics that ``graph`` stores once are equal.

    Args:
        graph: the op graph, at any level.
        seed: of the draws; the same seed gives the same values.
    """
    require_type(graph, Graph, "cliquegraph.lower(cliquegraph.unroll(network))")
    rng = np.random.default_rng(seed)
    # Sorted, so that values do not depend on the order in which a pass visits the tensors.
    ordered = sorted(graph.tensors, key=tensor_name)
    drawn = {tensor_name(tensor): _draw(tensor, rng) for tensor in ordered}
    agree(graph.params, drawn)
    return drawn


def _draw(tensor: Tensor, rng: np.random.Generator) -> Array:
    shape = tensor.shape
    match tensor.field:
        case Field.WEIGHT:
            fan_in = tensor.size // shape[0]
            return rng.normal(0.0, np.sqrt(2.0 / fan_in), shape)
        case Field.SCALE:
            return rng.uniform(0.5, 1.5, shape)
        case Field.VAR:
            return rng.uniform(0.5, 2.0, shape)
        case Field.BIAS | Field.MEAN:
            return rng.normal(0.0, 0.2, shape)
