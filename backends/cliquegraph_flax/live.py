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
        """Their types and shapes; the state of random numbers is no weight."""
        held = nnx.to_flat_state(nnx.state(self._model, nnx.Not(nnx.RngState)))
        return {
            ".".join(map(str, path)): TensorInfo(str(variable.dtype), tuple(variable.shape))
            for path, variable in held
        }

    def read(self, name: str) -> Array:
        """Return a copy of one, of its own type."""
        return np.array(find_variable(self._model, name)[...])

    def write(self, name: str, array: Array) -> None:
        """Set one, cast to its type and where its devices hold it."""
        variable = find_variable(self._model, name)
        held = variable[...]
        # A copy: JAX may keep NumPy's memory and not its own.
        variable[...] = jax.device_put(np.array(array, held.dtype), held.sharding)


def find_variable(model: nnx.Module, name: str) -> Any:
    """Return a model's variable by its path."""
    found: Any = model
    for part in name.split("."):
        found = getattr(found, part)
    return found


def blank(create: Callable[[], Any]) -> Any:
    """Return a model whose variables are 0: they are to be set, so nothing need be drawn."""
    definition, state = nnx.split(nnx.eval_shape(create))

    def fill(value: Any) -> jax.Array:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(value.shape, value.dtype)

    return nnx.merge(definition, jax.tree.map(fill, state))
