"""A backend as somebody else would write it: models in plain NumPy, for evaluation."""

from cliquegraph_numpy.backend import BACKEND

__all__ = ["BACKEND"]
