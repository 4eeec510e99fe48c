"""The weights that training starts from: a function of the network and a seed."""

from __future__ import annotations

from math import sqrt

import numpy as np

from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field, Init, Tensor


def initial_tensors(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Draw every canonical tensor of a network as the paper starts it, float64.

    He for each kernel W(i→j) by its own fan-in, Xavier for linear layers, biases 0, batch
    normalisation 1 and 0. Each tensor has a stream of its own, so that networks that share a
    part start it alike in every framework and at every -O level.
    """
    drawn = {}
    for tensor in graph.tensors:
        name = tensor_name(tensor)
        stream = np.random.default_rng((seed, *name.encode()))
        drawn[name] = _draw(tensor, stream)
    return drawn


def _draw(tensor: Tensor, stream: np.random.Generator) -> Array:
    shape = tensor.shape
    if tensor.field in (Field.SCALE, Field.VAR):
        return np.ones(shape)
    if tensor.field in (Field.BIAS, Field.MEAN):
        return np.zeros(shape)
    fan_in = tensor.size // shape[0]
    if tensor.init is Init.XAVIER:
        bound = sqrt(6.0 / (fan_in + shape[0]))
        return stream.uniform(-bound, bound, shape)
    return stream.normal(0.0, sqrt(2.0 / fan_in), shape)
