"""The Flax backend: one standalone NNX module file for a network."""

from cliquegraph_flax.backend import BACKEND

__all__ = ["BACKEND"]
