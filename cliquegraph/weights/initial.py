"""Initial weights for training: a function of the network and a seed."""

from __future__ import annotations

from math import sqrt

import numpy as np

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Init, Tensor


def initial_tensors(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Initialize every canonical tensor of a network as in the paper, float64.

    He initialization for each kernel W(i→j) by its own fan-in, or by fan-out if the spec selects
    it, Xavier for linear layers, biases 0, batch normalization 1 and 0. Each tensor has its own
    random stream, so that parts shared by networks start equal in every framework and at every -O
    level.
    """
    drawn = {}
    for tensor in graph.tensors:
        name = tensor_name(tensor)
        stream = np.random.default_rng((seed, *name.encode()))
        drawn[name] = _draw(tensor, stream)
    return drawn


def _draw(tensor: Tensor, stream: np.random.Generator) -> Array:
    shape = tensor.shape
    fan_in = tensor.size // shape[0]
    match tensor.init:
        case Init.ONES:
            return np.ones(shape)
        case Init.ZEROS:
            return np.zeros(shape)
        case Init.XAVIER:
            bound = sqrt(6.0 / (fan_in + shape[0]))
            return stream.uniform(-bound, bound, shape)
        case Init.HE:
            return stream.normal(0.0, sqrt(2.0 / fan_in), shape)
        case Init.HE_FAN_OUT:
            fan_out = tensor.size // shape[1]
            return stream.normal(0.0, sqrt(2.0 / fan_out), shape)
