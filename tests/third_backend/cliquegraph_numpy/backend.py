"""Writes a network as NumPy source."""

from __future__ import annotations

from typing import Any

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.emit.file import write_file
from cliquegraph.emit.names import is_bare, member_path
from cliquegraph.emit.render import environment
from cliquegraph.emit.view import ModelView
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.types import Biased, Param, WithBias
from cliquegraph.plugins.backends import Executor
from cliquegraph_numpy.spell import NumpySpeller

_IMPORTS = (
    {"from typing import {}": ("Any", "NamedTuple")},
    {"import numpy as {}": ("np",), "from numpy.typing import {}": ("NDArray",)},
)


class NumpyLayout:
    def name(self, param: Param) -> str:
        is_kernel = len(param.shape) == 4 and not isinstance(param, Biased | WithBias)
        bare = is_kernel or is_bare(param.slot)
        return ".".join(member_path(param) if bare else (*member_path(param), param.field))

    def axes(self, param: Param) -> tuple[int, ...]:
        return tuple(range(len(param.shape)))[::-1]

    def counter(self, param: Param) -> None:
        return None


class NumpyBackend:
    name = "numpy"
    description = "plain NumPy, evaluation only; maps are (batch, channels, height, width)"
    reserved = frozenset(
        {"Any", "NDArray", "NamedTuple", "np", "Array", "Feature", "Moments", "Norm", "BatchNorm"}
        | {"Affine", "Linear", "BiasedConv", "windows", "conv", "normalized", "GroupNorm"}
        | {"DepthwiseConv", "depthwise_conv", "local_response", "zeros"}
        | {"norm_relu", "batch_norm_relu", "concat_conv"}
    )

    modules = frozenset({"numpy"})
    layout = NumpyLayout()

    def write(self, view: ModelView) -> str:
        templates = environment("cliquegraph_numpy")
        return write_file(view, NumpySpeller(), templates, {"helpers": {}}, _IMPORTS)

    def missing(self) -> str | None:
        return None

    def live(self, model: object) -> None:
        return None

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        raise BackendError("backend 'numpy' evaluates and does not train")


BACKEND: Any = NumpyBackend()
