"""Runs generated Flax models, in evaluation, and builds those that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from cliquegraph.compiler import Compilation
from cliquegraph.data import Images
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.engines import Classify
from cliquegraph.training.job import Precision
from cliquegraph.weights import load_weights
from cliquegraph_flax.live import blank
from cliquegraph_flax.programs import logits

WEIGHTS: dict[Precision, str] = {
    "float64": "float64",
    "float32": "float32",
    "bfloat16": "float32",
    "float16": "float32",
}
"""The type of parameters."""


def classifier(
    compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
) -> Classify:
    """Return a network that classifies images."""
    wide = precision == "float64"
    source = compilation.source(find_backend("flax"))
    with jax.enable_x64(wide):
        model = model_of(source, compilation.network.python_class, precision)
        load_weights(model, compilation.network, tensors)
        model.eval()
        parts: Any = nnx.split(model, nnx.RngState, ...)
        definition, streams, weights = parts
        compiled = jax.jit(partial(logits, definition, streams))

    def classify(images: Images) -> Array:
        with jax.enable_x64(wide):
            return np.asarray(compiled(weights, {}, channels_last(images)))

    return classify


def model_of(source: str, class_name: str, precision: Precision) -> Any:
    """Return the model that a source defines, with weights of the precision's type."""
    module = load_source(source, f"cliquegraph_trained_{class_name}")
    create = getattr(module, class_name)
    types = {"dtype": precision, "param_dtype": WEIGHTS[precision]}
    return blank(lambda: create(rngs=nnx.Rngs(0), **types))


def channels_last(images: Images) -> Images:
    """Return images as (batch, H, W, C)."""
    return np.ascontiguousarray(np.transpose(images, (0, 2, 3, 1)))
