"""Flax models lower for CUDA, trained and evaluated, without a GPU at hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import Array

from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from tests.cuda.test_fake_device import SPEC

WAYS: dict[str, dict[str, Any]] = {
    **{f"-O{level}": {"level": level} for level in LEVELS},
    "folded": {"inference": True},
}
IMAGES = (4, SPEC.input.height, SPEC.input.width, SPEC.input.channels)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
def test_it_lowers_for_cuda(way: str, dtype: str) -> None:
    source = Compilation(SPEC, **WAYS[way]).source(find_backend("flax"))
    create = getattr(load_source(source, f"flax{way}{dtype}"), SPEC.python_class)
    model = create(rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype))
    if way == "folded":
        model.eval()
    definition, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters: Any, rest: Any, images: Array) -> tuple[Array, Any]:
        merged = nnx.merge(definition, parameters, rest, copy=True)
        logits = merged(images)
        assert logits.dtype == jnp.float32
        return logits.sum(), nnx.state(merged, nnx.Not(nnx.Param))

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    exported = jax.export.export(step, platforms=["cuda"])(parameters, rest, jnp.zeros(IMAGES))
    assert exported.platforms == ("cuda",)
    text = exported.mlir_module()
    assert text.count("stablehlo.convolution") >= sum(
        node.op.mnemonic == "conv" for node in Compilation(SPEC, **WAYS[way]).graph
    )
    # Convolutions, the bulk of the work, are in the requested type.
    kind = {"float32": "xf32>", "bfloat16": "xbf16>"}[dtype]
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert all(kind in line.rsplit("->", 1)[1] for line in convolutions)
