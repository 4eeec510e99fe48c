"""What a release wrote is still read: its weights, by its own generated files and by today's.

The folder ``v0_1`` was made by ``make.py`` and is not to be made again.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import cliquegraph
from cliquegraph import NetworkSpec, interpret
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.verify import TOLERANCE, relative_error
from cliquegraph.weights.storage import Array
from tests.networks import shipped
from tests.stability.make import FOLDER, REDUCED

WEIGHTS = FOLDER / "weights.safetensors"


@pytest.fixture(scope="module")
def spec() -> NetworkSpec:
    return shipped("quickstart", *REDUCED)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    with np.load(FOLDER / "logits.npz") as held:
        return dict(held)


def torch_logits(source: str, spec: NetworkSpec, images: Array) -> Array:
    model = load_source(source, "generated").Quickstart().double().eval()
    cliquegraph.load_weights(model, spec, WEIGHTS)
    with torch.no_grad():
        logits: Array = model(torch.from_numpy(images)).numpy()
    return logits


def flax_logits(source: str, spec: NetworkSpec, images: Array) -> Array:
    create: Any = load_source(source, "generated").Quickstart
    with jax.enable_x64(True):
        model = create(rngs=nnx.Rngs(0), param_dtype=jnp.float64, dtype=jnp.float64)
        model.eval()
        cliquegraph.load_weights(model, spec, WEIGHTS)
        return np.asarray(model(jnp.asarray(np.transpose(images, (0, 2, 3, 1)))))


def assert_same(found: Array, arrays: dict[str, Array]) -> None:
    assert relative_error({"": found}, {"": arrays["logits"]}) < TOLERANCE


def test_the_interpreter(spec: NetworkSpec, arrays: dict[str, Array]) -> None:
    tensors = cliquegraph.read_weights(spec, WEIGHTS)
    found = interpret(Compilation(spec).lowered, dict(tensors), arrays["images"])
    assert_same(found.logits, arrays)


@pytest.mark.parametrize("level", LEVELS)
def test_todays_pytorch_model(level: int, spec: NetworkSpec, arrays: dict[str, Array]) -> None:
    source = cliquegraph.compile(spec, "torch", level=level)
    assert_same(torch_logits(source, spec, arrays["images"]), arrays)


def test_todays_flax_model(spec: NetworkSpec, arrays: dict[str, Array]) -> None:
    assert_same(flax_logits(cliquegraph.compile(spec, "flax"), spec, arrays["images"]), arrays)


def test_the_pytorch_file_of_the_release(spec: NetworkSpec, arrays: dict[str, Array]) -> None:
    source = (FOLDER / "torch.txt").read_text(encoding="utf-8")
    assert_same(torch_logits(source, spec, arrays["images"]), arrays)


def test_the_flax_file_of_the_release(spec: NetworkSpec, arrays: dict[str, Array]) -> None:
    source = (FOLDER / "flax.txt").read_text(encoding="utf-8")
    assert_same(flax_logits(source, spec, arrays["images"]), arrays)
