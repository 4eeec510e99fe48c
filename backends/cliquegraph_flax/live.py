"""A Flax model in memory, as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cliquegraph.ir.storage import Array
from cliquegraph.weights.source import TensorInfo


class LiveModel:
    """The variables of a generated model, by their paths joined by dots."""

    def __init__(self, model: nnx.Module) -> None:
        self._model = model
        self.metadata: Mapping[str, str] = {}

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Types and shapes of the variables, without the state of random streams."""
        variables = nnx.to_flat_state(nnx.state(self._model, nnx.Not(nnx.RngState)))
        return {
            ".".join(map(str, path)): TensorInfo(str(variable.dtype), tuple(variable.shape))
            for path, variable in variables
        }

    def read(self, name: str) -> Array:
        """Return a copy of a variable, of its own type."""
        return np.array(find_variable(self._model, name)[...])

    def write(self, name: str, array: Array) -> None:
        """Set a variable, with a cast to its type and with its sharding."""
        variable = find_variable(self._model, name)
        old = variable[...]
        # A copy: JAX may otherwise share NumPy's memory.
        variable[...] = jax.device_put(np.array(array, old.dtype), old.sharding)


def find_variable(model: nnx.Module, name: str) -> Any:
    """Return a model's variable by its path."""
    variable: Any = model
    for part in name.split("."):
        variable = getattr(variable, part)
    return variable


def blank(create: Callable[[], Any]) -> Any:
    """Return a model whose variables are 0, to be set later: no random initialization."""
    definition, state = nnx.split(nnx.eval_shape(create))

    def fill(value: Any) -> jax.Array:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(value.shape, value.dtype)

    return nnx.merge(definition, jax.tree.map(fill, state))
