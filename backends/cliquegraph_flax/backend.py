"""Writes a network as Flax NNX source."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from cliquegraph.emit.file import write_file
from cliquegraph.emit.render import environment
from cliquegraph.emit.view import Dense, Kernel, KernelBank, ModelView, Norm, SharedKernel, Thing
from cliquegraph.errors import BackendError
from cliquegraph.ir.ops import AvgPool, Conv, MaxPool, Op
from cliquegraph_flax.spell import FlaxSpeller

if TYPE_CHECKING:
    from cliquegraph.emit.backend import Executor
    from cliquegraph.ir.graph import Graph


_HELPERS: dict[str, frozenset[type[Thing] | type[Op]]] = {
    "he_kernel": frozenset({Kernel, SharedKernel}),
    "kernel_bank": frozenset({KernelBank}),
    "conv": frozenset({Conv}),
    "max_pool": frozenset({MaxPool}),
    "avg_pool": frozenset({AvgPool}),
    "batch_norm": frozenset({Norm}),
    "xavier_linear": frozenset({Dense}),
}
"""The templates of helpers, and the members and operations that need each."""


_IMPORTS = {
    "import jax": "jax",
    "import jax.numpy as jnp": "jnp",
    "import numpy as np": "np",
    "from flax import nnx": "nnx",
    "from jax import Array, lax": "lax",
    "from jax.typing import DTypeLike": "DTypeLike",
}


class FlaxBackend:
    """The backend behind ``--backend flax``."""

    name = "flax"
    description = "Flax NNX; images and maps are (batch, height, width, channels)"
    reserved = frozenset(
        {"Array", "BatchNorm", "DTypeLike", "jax", "jnp", "lax", "nnx", "np", *_HELPERS}
    )

    def write(self, view: ModelView) -> str:
        """Return the source of the network."""
        used = [name for name, users in _HELPERS.items() if users & (view.things | view.ops)]
        templates = environment("cliquegraph_flax")
        return write_file(view, FlaxSpeller(), templates, used, _IMPORTS)

    def missing(self) -> str | None:
        """Return how to install JAX and Flax, or None where they are installed."""
        found = all(find_spec(package) for package in ("jax", "flax", "optax"))
        return None if found else "pip install 'cliquegraph[flax]'"

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        """Load a source that ``write`` returned."""
        if how := self.missing():
            raise BackendError(f"backend 'flax' needs JAX, Flax and Optax: {how}")
        from cliquegraph_flax.execute import FlaxExecutor

        return FlaxExecutor(source, class_name, graph, dtype)


BACKEND = FlaxBackend()
