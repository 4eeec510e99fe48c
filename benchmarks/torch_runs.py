"""What the benchmarks run in PyTorch: the variants of a network, and how they run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

import cliquegraph
from benchmarks.bundled.torch_steps import CUDA as CUDA
from benchmarks.bundled.torch_steps import DEVICE as DEVICE
from benchmarks.bundled.torch_steps import LAYOUTS as LAYOUTS
from benchmarks.bundled.torch_steps import Configuration as Configuration
from benchmarks.bundled.torch_steps import TrainingStep as TrainingStep
from benchmarks.bundled.torch_steps import timed as timed
from benchmarks.bundled.torch_steps import with_peak as with_peak
from benchmarks.harness import DTYPES, FORMATS
from benchmarks.literal_spec import literal_model
from cliquegraph import NetworkSpec
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import DEFAULT_LEVEL

LITERAL = "literal"


def configurations(arguments: argparse.Namespace) -> list[Configuration]:
    """Set PyTorch up and return the configurations that were asked for.

    By default that is every one on a CUDA device, and the plain one elsewhere.
    """
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True  # the usual setting where sizes stay the same
    return [
        Configuration(dtype, layout, compiled)
        for dtype in arguments.dtypes or (DTYPES if CUDA else DTYPES[:1])
        for layout in arguments.formats or (FORMATS if CUDA else FORMATS[:1])
        for compiled in arguments.compiled or (("no", "whole") if CUDA else ("no",))
    ]


def generated_model(network: NetworkSpec, level: int = DEFAULT_LEVEL, **options: Any) -> nn.Module:
    """Compile a network at an -O level and return its model."""
    source = cliquegraph.compile(network, "torch", level=level, **options)
    module = load_source(source, f"generated_{network.name}_o{level}_{len(sys.modules)}")
    sys.modules[module.__name__] = module  # where torch.compile looks for a function's globals
    torch.manual_seed(0)
    model = getattr(module, network.python_class)()
    assert isinstance(model, nn.Module)  # noqa: S101  # the backend wrote it
    return model


def builders(network: NetworkSpec, levels: Iterable[int]) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each variant: the literal model, then every -O level."""

    def literal() -> nn.Module:
        torch.manual_seed(0)
        return literal_model(network)

    return {
        LITERAL: literal,
        **{f"O{level}": lambda level=level: generated_model(network, level) for level in levels},
    }
