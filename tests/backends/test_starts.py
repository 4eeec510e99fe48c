"""Both frameworks' files start kernels by their fan-out, and scales at 0, as the spec says."""

from __future__ import annotations

import numpy as np
import pytest
from flax.nnx import Rngs

import cliquegraph
from cliquegraph.emit.execute import load_source
from tests.networks import network

SPEC = network(
    {"kind": "residual", "layers": 1, "filters": 64, "zero_init": True},
    {"kind": "residual", "layers": 1, "filters": 64, "init": "fan_in"},
    stem={"filters": 32, "init": "fan_out"},
    transition="none",
    readout={"blocks": "last", "norm": False},
)
VARIANCES = {
    "stem.conv.weight": 2 / (32 * 9),
    "block1.v1_1.weight": 2 / (64 * 9),
    "block1.x1.shortcut.conv.weight": 2 / 64,
    "block2.v1_1.weight": 2 / (64 * 9),
}


@pytest.mark.parametrize("name", ["torch", "flax"])
def test_a_file_starts_as_the_spec_says(name: str) -> None:
    network = getattr(load_source(cliquegraph.compile(SPEC, name), "generated"), SPEC.python_class)
    tensors = cliquegraph.model_weights(
        network() if name == "torch" else network(rngs=Rngs(0)), SPEC
    )
    for tensor, variance in VARIANCES.items():
        assert np.var(tensors[tensor]) == pytest.approx(variance, rel=0.2)
    assert not tensors["block1.x1.norm2.scale"].any()
    assert tensors["block1.x1.norm1.scale"].all()
    assert tensors["block2.x1.norm2.scale"].all()
