"""Where a generated model keeps a parameter of the op graph, and in which layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from cliquegraph.emit.names import member_path
from cliquegraph.ir.types import Biased, Field, Param
from cliquegraph.weights.storage import Array

_FIELDS = {
    Field.SCALE: "scale",
    Field.BIAS: "bias",
    Field.MEAN: "mean",
    Field.VAR: "var",
}


def variable_path(param: Param) -> tuple[str, ...]:
    """Return the path of a parameter in the model's ``nnx.state``.

    A convolution's kernel is a variable of its own; a linear layer, and a convolution with a
    bias, call it ``kernel``.
    """
    path = member_path(param)
    if param.field is not Field.WEIGHT:
        return (*path, _FIELDS[param.field])
    is_variable = len(param.shape) == 4 and not isinstance(param, Biased)
    return path if is_variable else (*path, "kernel")


def find_variable(model: nnx.Module, param: Param) -> Any:
    """Return the model's variable for a parameter."""
    found: Any = model
    for name in variable_path(param):
        found = getattr(found, name)
    return found


def to_layout(array: Array) -> Array:
    """Turn a canonical tensor into JAX's layout: OIHW to HWIO, (out, in) to (in, out)."""
    if array.ndim == 4:
        return np.transpose(array, (2, 3, 1, 0))
    return array.T


def from_layout(array: Array) -> Array:
    """Turn a tensor in JAX's layout into a canonical one; ``to_layout`` undone."""
    if array.ndim == 4:
        return np.transpose(array, (3, 2, 0, 1))
    return array.T
