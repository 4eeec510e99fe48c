"""What the benchmarks run in JAX: the generated Flax models and their types."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from flax import nnx

import cliquegraph
from benchmarks.bundled.flax_steps import DEVICE as DEVICE
from benchmarks.bundled.flax_steps import ON_CPU as ON_CPU
from benchmarks.bundled.flax_steps import TYPES as TYPES
from benchmarks.bundled.flax_steps import Program as Program
from benchmarks.bundled.flax_steps import batch as batch
from benchmarks.bundled.flax_steps import compilers as compilers
from benchmarks.bundled.flax_steps import evaluation_program as evaluation_program
from benchmarks.bundled.flax_steps import precision as precision
from benchmarks.bundled.flax_steps import training_program as training_program
from benchmarks.harness import DTYPES
from cliquegraph import NetworkSpec
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import DEFAULT_LEVEL


def dtypes(arguments: argparse.Namespace) -> Sequence[str]:
    """Return the requested types; by default all, or float32 on a CPU."""
    return arguments.dtypes or (DTYPES[:1] if ON_CPU else DTYPES)


def generated_model(
    network: NetworkSpec, level: int = DEFAULT_LEVEL, dtype: str = "fp32", **options: Any
) -> Any:
    """Compile a network at an -O level and return its model."""
    source = cliquegraph.compile(network, "flax", level=level, **options)
    module = load_source(source, f"generated_{network.name}_o{level}")
    return getattr(module, network.python_class)(rngs=nnx.Rngs(0), dtype=TYPES[dtype])
