"""Prints a network as Flax NNX source."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.emit.file import Imports, write_file
from cliquegraph.emit.render import environment
from cliquegraph.emit.things import (
    BiasedKernel,
    BranchDrop,
    BranchNorm,
    ChannelAffine,
    ColumnDraw,
    ColumnJoinDrop,
    DepthwiseKernel,
    FanOutKernel,
    GroupNormalizer,
    ImageBranchDrop,
    JoinDrop,
    Kernel,
    KernelBank,
    KernelWithBias,
    Norm,
    Normalizer,
    SharedKernel,
    Statistics,
    Thing,
    ZeroBranchNorm,
    ZeroNorm,
)
from cliquegraph.emit.view import ModelView
from cliquegraph.ir.ops import AvgPool, Conv, GlobalMaxPool, LocalResponse, MaxPool, Op, Zeros
from cliquegraph.plugins.install import how_to_install
from cliquegraph_flax.naming import FlaxLayout
from cliquegraph_flax.needs import FRAMEWORK
from cliquegraph_flax.spell import FlaxSpeller

if TYPE_CHECKING:
    from cliquegraph.ir.graph import Graph
    from cliquegraph.plugins.backends import Executor
    from cliquegraph.proof.program import Tracer
    from cliquegraph.weights.source import LiveTensors

_UNITS = ("norm_relu", "batch_norm_relu")

_NORMS: tuple[type[Thing], ...] = (Norm, ZeroNorm, BranchNorm, ZeroBranchNorm)

_HELPERS: dict[str, frozenset[type[Thing] | type[Op] | str]] = {
    "he_kernel": frozenset({Kernel, SharedKernel}),
    "fan_out_kernel": frozenset({FanOutKernel}),
    "kernel_bank": frozenset({KernelBank}),
    "conv": frozenset({Conv, *_UNITS, "concat_conv"}),
    "conv_with_bias": frozenset({KernelWithBias, DepthwiseKernel}),
    "pools": frozenset({MaxPool, GlobalMaxPool, AvgPool}),
    "feature": frozenset({Statistics}),
    "batch_norm": frozenset(_NORMS),
    "batch_moments": frozenset({*_NORMS, Statistics}),
    "normalize": frozenset({*_NORMS, Normalizer}),
    "statistics": frozenset({*_NORMS, Statistics}),
    "statistics_norm": frozenset(_NORMS),
    "zero_norm": frozenset({ZeroNorm}),
    "drop_path": frozenset({BranchDrop}),
    "image_drop_path": frozenset({ImageBranchDrop}),
    "draw_column": frozenset({ColumnDraw}),
    "join_weights": frozenset({JoinDrop}),
    "column_join_weights": frozenset({ColumnJoinDrop}),
    "branch_norm": frozenset({BranchNorm, ZeroBranchNorm}),
    "zero_branch_norm": frozenset({ZeroBranchNorm}),
    "moments": frozenset({Statistics}),
    "norm": frozenset({Normalizer}),
    "biased_conv": frozenset({BiasedKernel}),
    "channel_affine": frozenset({ChannelAffine}),
    "unit": frozenset(_UNITS),
    **{function: frozenset({function}) for function in _UNITS},
    "concat_conv": frozenset({"concat_conv"}),
    "group_norm": frozenset({GroupNormalizer}),
    "local_response_norm": frozenset({LocalResponse}),
    "zeros": frozenset({Zeros}),
}
"""The templates of helpers, and the members, operations and units that need each."""

_SHARE_MOMENTS = frozenset({"batch_moments", "normalize", "statistics", "statistics_norm"})
"""The parts of a normalization, for helpers that compute its moments or share those of others."""

_DEFINED = frozenset(
    {"BatchNorm", "BiasedConv", "BranchNorm", "ChannelAffine", "Conv", "DropPath", "Feature"}
    | {"ColumnJoinWeights", "DrawColumn", "JoinWeights"}
    | {"GroupNorm", "ImageDropPath", "Moments", "Norm", "Statistics"}
)

_IMPORTS: tuple[Imports, ...] = (
    {
        "from collections.abc import {}": ("Callable",),
        "from functools import {}": ("partial",),
        "from typing import {}": ("NamedTuple",),
    },
    {
        "import {}": ("jax",),
        "import jax.numpy as {}": ("jnp",),
        "import numpy as {}": ("np",),
        "from flax import {}": ("nnx",),
        "from jax import {}": ("Array", "lax"),
        "from jax.nn.initializers import {}": ("variance_scaling", "xavier_uniform"),
        "from jax.typing import {}": ("DTypeLike",),
    },
)


class FlaxBackend:
    """The backend behind ``--backend flax``."""

    name = "flax"
    description = "Flax NNX; images and maps are (batch, height, width, channels)"
    reserved = frozenset(
        {"Array", "DTypeLike", "jax", "jnp", "lax", "nnx", "np", "partial"}
        | {"Callable", "NamedTuple", "avg_pool", "max_pool", "variance_scaling", "xavier_uniform"}
        | _HELPERS.keys()
        | _DEFINED
    )
    modules = frozenset(
        {
            "absl",
            "chex",
            "cloudpickle",
            "etils",
            "filelock",
            "flatbuffers",
            "flax",
            "jax",
            "jaxlib",
            "ml_dtypes",
        }
        | {"msgpack", "numpy", "opt_einsum", "optax", "orbax", "pygments", "rich", "scipy"}
        | {"tensorstore", "traitlets", "treescope", "typing_extensions", "yaml"}
    )
    layout = FlaxLayout()

    def write(self, view: ModelView) -> str:
        """Return the source of the network."""
        needed = view.things | view.ops | view.functions
        used = {name for name, users in _HELPERS.items() if users & needed}
        used |= {f"{start}_kernel" for start in _starts(view)}
        used -= set() if _has_trained_bias(view) else {"conv_with_bias"}
        used -= {"batch_norm"} if used & {"moments", *_UNITS} else _SHARE_MOMENTS
        used -= {"he_kernel"} if "kernel_bank" in used else set()
        helpers = {name: _substitutions(name, view) for name in _HELPERS if name in used}
        templates = environment("cliquegraph_flax")
        return write_file(view, FlaxSpeller(view), templates, helpers, _IMPORTS)

    def missing(self) -> str | None:
        """Return how to install JAX and Flax, or None where they are installed."""
        return how_to_install(FRAMEWORK)

    def live(self, model: object) -> LiveTensors | None:
        """Return the tensors of a Flax model, else None."""
        if "flax" not in sys.modules:  # then there is no such model
            return None
        from flax import nnx

        from cliquegraph_flax.live import LiveModel

        return LiveModel(model) if isinstance(model, nnx.Module) else None

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        """Load a source that ``write`` returned."""
        if how := self.missing():
            raise BackendError(f"backend 'flax' needs JAX, Flax and Optax: {how}")
        from cliquegraph_flax.execute import FlaxExecutor

        return FlaxExecutor(source, class_name, graph, dtype)

    def tracer(self, source: str, class_name: str, graph: Graph) -> Tracer:
        """Load a source that ``write`` returned, to trace it."""
        if how := self.missing():
            raise BackendError(f"backend 'flax' needs JAX, Flax and Optax: {how}")
        from cliquegraph_flax.trace import FlaxTracer

        return FlaxTracer.of_source(source, class_name, graph.name)


def _substitutions(helper: str, view: ModelView) -> dict[str, str]:
    """The substitutions of a helper's template, without parameters that no call uses."""
    if helper == "batch_norm":
        norms = [each.thing for each in view.members if isinstance(each.thing, Norm)]
        return {"eps": f"{norms[0].eps:g}".replace("e-0", "e-"), "momentum": str(norms[0].momentum)}
    if helper == "conv":
        own = view.things & {BiasedKernel} or view.functions or _has_trained_bias(view)
        convs = view.applied(Conv)
        strided = bool(own) or any(conv.stride > 1 for conv in convs)
        padded = bool(own) or any(conv.padding for conv in convs)
        parameters = ["x: Array", "w: Array"]
        parameters += ["stride: int = 1"] * strided + ["padding: int = 0"] * padded
        depthwise = any(conv.depthwise for conv in convs)
        multiplies = not (depthwise or view.functions.isdisjoint(_UNITS))
        return {
            "note": "; 1×1 as a product" if multiplies else "",
            "product": _MULTIPLY if multiplies else "",
            "parameters": ", ".join(parameters),
            "strides": "(stride, stride)" if strided else "(1, 1)",
            "pads": "((padding, padding), (padding, padding))" if padded else '"VALID"',
            "call": _CONVOLVE[depthwise],
        }
    if helper == "pools":
        pools: tuple[tuple[str, set[type[Op]]], ...] = (
            ("max_pool", {MaxPool, GlobalMaxPool}),
            ("avg_pool", {AvgPool}),
        )
        lines = [
            f"{name}: Callable[..., Array] = nnx.{name}" for name, used in pools if used & view.ops
        ]
        lines[0] += "  # Flax's pools have no types"
        return {"pools": "\n".join(lines)}
    return {}


_MULTIPLY = """\
    if w.shape[:2] == (1, 1) and (stride, padding) == (1, 0):  # which XLA computes faster
        return x @ w[0, 0].astype(x.dtype)
"""
"""The 1×1 convolutions of ``conv`` above -O0, which the literal file has as such."""

_CONVOLVE = {
    False: (
        "    return lax.conv_general_dilated("
        "x, w.astype(x.dtype), strides, pads, dimension_numbers=layout)"
    ),
    True: """\
    groups = x.shape[-1] // w.shape[2]  # 1, or of a depthwise convolution all channels
    return lax.conv_general_dilated(
        x,
        w.astype(x.dtype),
        strides,
        pads,
        dimension_numbers=layout,
        feature_group_count=groups,
    )""",
}
"""What ``conv`` does, without depthwise convolutions and with them."""


def _has_trained_bias(view: ModelView) -> bool:
    """Whether there are convolutions with a trained bias."""
    things = (member.thing for member in view.members)
    return any(isinstance(t, KernelWithBias) or getattr(t, "bias", False) for t in things)


def _starts(view: ModelView) -> set[str]:
    """How kernels start: ``he``, ``fan_out``."""
    kernels = (KernelWithBias, DepthwiseKernel)
    things = (member.thing for member in view.members)
    return {"fan_out" if t.fan_out else "he" for t in things if isinstance(t, kernels)}


BACKEND = FlaxBackend()
