"""Prints a network as PyTorch source."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.emit.file import Imports, write_file
from cliquegraph.emit.render import environment
from cliquegraph.emit.things import (
    BranchDrop,
    BranchNorm,
    ChannelAffine,
    ColumnDraw,
    ColumnJoinDrop,
    Dense,
    DepthwiseKernel,
    FanOutKernel,
    GroupNormalizer,
    ImageBranchDrop,
    JoinDrop,
    Kernel,
    KernelBank,
    KernelWithBias,
    Normalizer,
    SharedKernel,
    Statistics,
    Thing,
    ZeroBranchNorm,
    ZeroNorm,
)
from cliquegraph.emit.view import ModelView
from cliquegraph.ir.ops import GlobalMean, Op, Zeros
from cliquegraph.plugins.install import how_to_install
from cliquegraph_torch.naming import TorchLayout
from cliquegraph_torch.needs import FRAMEWORK
from cliquegraph_torch.spell import TorchSpeller, alike_steps, convolution_starts, he_lines

if TYPE_CHECKING:
    from collections.abc import Collection

    from cliquegraph.ir.graph import Graph
    from cliquegraph.plugins.backends import Executor
    from cliquegraph.plugins.memory import MemoryPlan
    from cliquegraph.proof.program import Tracer
    from cliquegraph.weights.source import LiveTensors

_UNITS = ("norm_relu", "batch_norm_relu")

_HELPERS: dict[str, frozenset[type[Thing] | type[Op] | str]] = {
    "kernel_bank": frozenset({KernelBank, SharedKernel}),
    "fan_out_conv": frozenset({FanOutKernel, KernelWithBias, DepthwiseKernel}),
    "zero_norm": frozenset({ZeroNorm}),
    "drop_path": frozenset({BranchDrop}),
    "image_drop_path": frozenset({ImageBranchDrop}),
    "draw_column": frozenset({ColumnDraw}),
    "join_weights": frozenset({JoinDrop}),
    "column_join_weights": frozenset({ColumnJoinDrop}),
    "branch_norm": frozenset({BranchNorm, ZeroBranchNorm}),
    "zero_branch_norm": frozenset({ZeroBranchNorm}),
    "require_branch_norms": frozenset({BranchNorm, ZeroBranchNorm}),
    "init_weights": frozenset({Kernel, FanOutKernel, KernelWithBias, DepthwiseKernel, Dense}),
    "channel_affine": frozenset({ChannelAffine}),
    "eager": frozenset({Statistics, *_UNITS, "concat_conv", "avg_pool"}),
    "plain": frozenset({Statistics, *_UNITS}),
    "triton": frozenset({Statistics, "norm_relu"}),
    "slab": frozenset({Statistics, "norm_relu"}),
    "norm_part": frozenset({Statistics, Normalizer, "norm_relu"}),
    "require_supported": frozenset({Statistics, Normalizer, *_UNITS}),
    "moments": frozenset({Statistics}),
    "norm": frozenset({Normalizer, "norm_relu"}),
    "norm_relu": frozenset({"norm_relu"}),
    "kernel_of": frozenset({"kernel_of"}),
    "batch_norm_relu": frozenset({"batch_norm_relu"}),
    "bn_relu": frozenset({"bn_relu"}),
    "concat_conv": frozenset({"concat_conv"}),
    "avg_pool": frozenset({"avg_pool"}),
    "global_mean": frozenset({"global_mean"}),
    "zeros": frozenset({Zeros}),
}
"""The templates of helpers, and the members, operations and units that need each."""

_BELOW = (
    *("norm_part", "moments", "norm", "norm_relu", "batch_norm_relu", "kernel_of", "concat_conv"),
    *("avg_pool", "global_mean"),
    *("slab", "bn_relu", "eager", "plain", "require_supported", "triton"),
)
"""Those that follow the network: they say how it is computed, and what it is comes first."""

_DEFINED = frozenset(
    {
        "AvgPool",
        "BatchNormRelu",
        "BnRelu",
        "BranchNorm2d",
        "ChannelAffine",
        "ColumnJoinWeights",
        "ConcatConv",
        "DrawColumn",
        "DropPath",
        "FanOutConv2d",
        "Feature",
        "GlobalMean",
        "ImageDropPath",
        "JoinWeights",
        "Moments",
        "Norm",
        "NormPart",
        "Operation",
        "Put",
        "Read",
        "Slab",
    }
    | {"accumulate", "affine_of", "compiled", "gather", "gradients_of", "is_derivable"}
    | {"convolve_or_pool", "maps_of", "pixels", "parts", "plain_moments", "rectify"}
    | {
        "NO_GRADIENTS",
        "TRITON",
        "affine_relu",
        "affine_relu_backward",
        "affine_relu_kernel",
        "affine_relu_mm_kernel",
    }
    | {
        "backward_kernel",
        "by_moments",
        "by_moments_kernel",
        "compiles",
        "constexpr",
        "copy_kernel",
        "copy_with_moments",
        "device_of",
        "product_constants",
        "is_fused",
        "jit",
        "merge_kernel",
        "on_triton",
        "tl",
    }
)

_APART = """
        for each in self.modules():
            if isinstance(each, Moments):
                each.in_slab = False  # compiled steps fuse the concatenation with what reads it
"""

_LIMITS = (
    "Compiled above -O0, for less memory. It refuses second derivatives, torch.fx, reentrant "
    "checkpoints, hooks on convolutions and normalizations, update_bn, SyncBatchNorm, and freezing "
    "some normalizations and not others. For these, compile at -O0."
)

_FIRST_ORDER = "Compiled above -O0, for less memory. For second derivatives, compile at -O0."

_BRANCH_NORMS = (
    "Statistics do not move where a branch is dropped: nn.SyncBatchNorm can't replace BranchNorm2d."
)

_IMPORTS: tuple[Imports, ...] = (
    {
        "from collections.abc import {}": ("Callable", "Iterable", "Sequence"),
        "from contextlib import {}": ("suppress",),
        "from functools import {}": ("cache", "partial"),
        "from importlib import {}": ("import_module",),
        "from math import {}": ("gcd",),
        "from typing import {}": ("Any", "Literal", "NamedTuple", "no_type_check"),
        "from warnings import {}": ("warn",),
    },
    {
        "import torch": ("torch",),
        "import torch.nn.functional as {}": ("F",),
        "from torch import Tensor, {}": ("nn",),
        "from torch.autograd import {}": ("forward_ad",),
        "from torch.utils.checkpoint import {}": ("checkpoint",),
    },
)


class TorchBackend:
    """The backend behind ``--backend torch``."""

    name = "torch"
    description = "PyTorch nn.Module; images and maps are (batch, channels, height, width)"
    reserved = frozenset(
        {"torch", "nn", "F", "Tensor", "Any", "Callable", "Literal", "NamedTuple", "partial"}
        | {"Iterable", "Sequence", "annotations"}
        | {"checkpoint", "forward_ad", "suppress", "cache", "import_module", "gcd"}
        | {"warn", "no_type_check"}
        | _HELPERS.keys()
        | _DEFINED
    )
    modules = frozenset(
        {"filelock", "fsspec", "functorch", "jinja2", "markupsafe", "mpmath", "networkx", "numpy"}
        | {"opt_einsum", "packaging", "setuptools", "sympy", "torch", "torchgen", "tqdm"}
        | {"triton", "typing_extensions"}
    )
    layout = TorchLayout()
    has_slabs = True

    def write(self, view: ModelView) -> str:
        """Return the source of the network."""
        needed = view.things | view.ops | view.functions
        needed |= {"avg_pool"} if view.recomputes_before_pool else set()
        needed |= {"kernel_of"} if view.reads_kernels else set()
        has_kernels = bool(_HELPERS["triton"] & needed)
        needed |= {"bn_relu"} if has_kernels and view.rectifies_norms else set()
        needed |= {"global_mean"} if has_kernels and GlobalMean in view.ops else set()
        things = [member.thing for member in view.members]
        helpers: dict[str, dict[str, str]] = {
            name: {} for name, users in _HELPERS.items() if users & needed
        }
        # Convolutions initialized by their fan-out have a class of their own if there are others.
        has_both = len(convolution_starts(things)) > 1
        if not has_both:
            helpers.pop("fan_out_conv", None)
        if "init_weights" in helpers:
            helpers["init_weights"] = {"convolution": he_lines(things)}
        if "require_supported" in helpers:
            helpers["require_supported"] = {"others": _other_norms(things)}
        templates = environment("cliquegraph_torch")
        apart = _APART if Statistics in view.things else ""
        steps = {"loops": apart.lstrip("\n") + alike_steps(view)}
        methods = {"compile_steps": steps} if view.alike else {}
        limits = [_BRANCH_NORMS] * ("branch_norm" in helpers)
        limits += [_LIMITS] * ("require_supported" in helpers)
        limits += [_FIRST_ORDER] * ("concat_conv" in helpers and "require_supported" not in helpers)
        checks = [name for name in ("require_branch_norms", "require_supported") if name in helpers]
        speller = TorchSpeller(has_both, checks=checks, has_kernels=has_kernels)
        ends = " ".join(limits)
        below = {name: helpers.pop(name) for name in _BELOW if name in helpers}
        return write_file(view, speller, templates, helpers, _IMPORTS, methods, ends, below)

    def missing(self) -> str | None:
        """Return how to install PyTorch, or None where it is installed."""
        return how_to_install(FRAMEWORK)

    def live(self, model: object) -> LiveTensors | None:
        """Return the tensors of a PyTorch model, else None."""
        if "torch" not in sys.modules:  # then there is no such model
            return None
        from torch import nn

        from cliquegraph_torch.live import LiveModel

        return LiveModel(model) if isinstance(model, nn.Module) else None

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        """Load a source that ``write`` returned."""
        if how := self.missing():
            raise BackendError(f"backend 'torch' needs PyTorch: {how}")
        from cliquegraph_torch.execute import TorchExecutor

        return TorchExecutor(source, class_name, graph, dtype)

    def tracer(self, source: str, class_name: str, graph: Graph) -> Tracer:
        """Load a source that ``write`` returned, to trace what it executes."""
        if how := self.missing():
            raise BackendError(f"backend 'torch' needs PyTorch: {how}")
        from cliquegraph_torch.trace import TorchTracer

        return TorchTracer.of_source(source, class_name, f"cliquegraph_generated_{graph.name}")

    def model_tracer(self, model: object) -> Tracer | None:
        """Trace a PyTorch model that somebody else wrote; None for others."""
        if "torch" not in sys.modules:  # then there is no such model
            return None
        from torch import nn

        from cliquegraph_torch.live import unwrapped
        from cliquegraph_torch.trace import TorchTracer

        return TorchTracer(unwrapped(model)) if isinstance(model, nn.Module) else None

    def memory(self, graph: Graph, *, batch: int = 1, dtype: str = "float32") -> MemoryPlan:
        """Predict the memory of a training step in eager mode."""
        from cliquegraph_torch.memory import memory_plan

        return memory_plan(graph, batch=batch, dtype=dtype)


def _other_norms(things: Collection[Thing]) -> str:
    """The classes of normalizations that a network may not have beside BatchNorm2d."""
    own = any(isinstance(thing, GroupNormalizer) for thing in things)
    return "nn.LayerNorm | nn.modules.batchnorm._NormBase" + " | nn.GroupNorm" * (not own)


BACKEND = TorchBackend()
