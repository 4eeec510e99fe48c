"""``activations`` of generated models: each version of each layer, as it is declared."""

from __future__ import annotations

import numpy as np
import pytest

from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend
from cliquegraph.semantics.declaration import evaluate
from cliquegraph.semantics.operations import Place
from cliquegraph.weights.initial import initial_tensors
from tests.networks import EVERY_KEY

NAMES = ["abc", "mixed", "residual", "three_sizes", "from_zeros", "gated", "fractal"]


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("name", NAMES)
def test_each_version_is_the_declared_one(name: str, backend: str) -> None:
    spec = EVERY_KEY[name]
    image = spec.input
    images = np.random.default_rng(0).normal(size=(2, image.channels, image.height, image.width))
    chosen, tensors = find_backend(backend), initial_tensors(Compilation(spec).lowered)
    declared = {
        f"{place.section}.X{place.layer}@{place.stage}": value
        for place, value in evaluate(spec, tensors, images).values.items()
        if isinstance(place, Place) and place.layer is not None
    }
    for level in (0, 2) if backend == "torch" else (0,):
        compilation = Compilation(spec, level)
        executor = chosen.executor(
            compilation.source(chosen), spec.python_class, compilation.graph, "float64"
        )
        executor.load(tensors)
        found = executor.activations(images)
        versions = {key: value for key, value in found.items() if not key.endswith(".X0")}
        assert (
            versions.keys() == declared.keys() if level == 0 else versions.keys() <= declared.keys()
        )
        inputs = [f"block{b}.X0" for b in range(1, len(spec.blocks) + 1)]
        assert [key for key in found if key.endswith(".X0")] == inputs
        for key, value in versions.items():
            np.testing.assert_allclose(value, declared[key], rtol=1e-9, atol=1e-11, err_msg=key)
