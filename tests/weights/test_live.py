"""Weights into models in memory, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from tests.function import images_for
from tests.networks import EVERY_KEY, clique
from tests.weights.files import canonical_file, sampled

PLACES = [(backend, level) for backend in ("torch", "flax") for level in LEVELS]


def live(spec: NetworkSpec, backend: str, level: int = DEFAULT_LEVEL, **how: Any) -> Any:
    source = cliquegraph.compile(spec, backend, level=level, **how)
    create = getattr(load_source(source, "generated"), spec.python_class)
    return create() if backend == "torch" else create(rngs=nnx.Rngs(0))


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], array) for name, array in expected.items()
    )


@pytest.mark.parametrize(("backend", "level"), PLACES)
@pytest.mark.parametrize("name", ["abc", "schedule", "mixed", "dropout"])
def test_into_a_model_and_back(name: str, backend: str, level: int) -> None:
    spec = EVERY_KEY[name]
    model = live(spec, backend, level)
    cliquegraph.load_weights(model, spec, sampled(spec))
    assert same(cliquegraph.model_weights(model, spec), sampled(spec))


def test_from_a_pytorch_model_into_a_flax_one() -> None:
    spec = EVERY_KEY["abc"]
    there = live(spec, "torch")
    images = images_for(cliquegraph.Compilation(spec).graph).astype(np.float32)
    with torch.no_grad():  # its running statistics move first
        there(torch.from_numpy(images))
    here = live(spec, "flax", 2)
    cliquegraph.load_weights(here, spec, cliquegraph.model_weights(there, spec))
    here.eval()
    with torch.no_grad():
        expected = there.eval()(torch.from_numpy(images)).numpy()
    found = here(jnp.asarray(np.transpose(images, (0, 2, 3, 1))))
    assert np.asarray(found) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_from_a_file(tmp_path: Path, backend: str) -> None:
    spec = clique()
    file = canonical_file(tmp_path / "c", spec, "float64")
    model = live(spec, backend)
    cliquegraph.load_weights(model, spec, file)
    expected = sampled(spec, "float32")  # what the model can hold of it
    assert same(cliquegraph.model_weights(model, spec), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile's own imports
def test_the_models_type_and_wrappers_are_kept() -> None:
    spec = clique()
    model = live(spec, "torch").bfloat16()
    wrapped = torch.compile(torch.nn.DataParallel(model))
    cliquegraph.load_weights(wrapped, spec, sampled(spec))
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    found = cliquegraph.model_weights(wrapped, spec)
    assert same(found, sampled(spec, "bfloat16"))
    cliquegraph.load_weights(model, spec, found)
    assert same(cliquegraph.model_weights(model, spec), found)


def test_a_flax_models_type_and_devices_are_kept() -> None:
    spec = clique()
    source = cliquegraph.compile(spec, "flax")
    model = load_source(source, "generated").Small(rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    before = jax.tree.map(lambda leaf: leaf.sharding, nnx.state(model))
    cliquegraph.load_weights(model, spec, sampled(spec))
    assert jax.tree.map(lambda leaf: leaf.sharding, nnx.state(model)) == before
    assert model.classifier.kernel[...].dtype == jnp.bfloat16


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_folded_model_takes_the_networks_own_tensors(backend: str) -> None:
    spec = EVERY_KEY["abc"]
    images = images_for(cliquegraph.Compilation(spec).graph).astype(np.float32)
    outputs = []
    for how in ({}, {"inference": True}):
        model = live(spec, backend, **how)
        cliquegraph.load_weights(model, spec, sampled(spec))
        model.eval()
        if backend == "torch":
            outputs.append(model(torch.from_numpy(images)).detach().numpy())
        else:
            outputs.append(np.asarray(model(jnp.asarray(np.transpose(images, (0, 2, 3, 1))))))
    assert outputs[1] == pytest.approx(outputs[0], rel=1e-3, abs=1e-4)
    with pytest.raises(WeightsError, match="can't be undone"):
        cliquegraph.model_weights(model, spec)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_model_of_another_network_is_refused(backend: str) -> None:
    with pytest.raises(WeightsError, match=rf"the model does not fit small \({backend} -O0\)"):
        cliquegraph.load_weights(live(clique(4), backend), clique(3), sampled(clique(3)))


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_nothing_is_set_where_anything_is_wrong(backend: str) -> None:
    spec = clique()
    model = live(spec, backend, 1)  # where statistics of a feature are stored once
    before = cliquegraph.model_weights(model, spec)
    tensors = sampled(spec)
    tensors["block1.x3.s1.norm.mean"] = tensors["block1.x3.s1.norm.mean"] + np.float32(1)
    with pytest.raises(WeightsError, match="running statistics"):
        cliquegraph.load_weights(model, spec, tensors)
    complex_bias = tensors["classifier.bias"].astype(np.complex64)
    with pytest.raises(WeightsError, match="weights are float16"):
        cliquegraph.load_weights(model, spec, {**tensors, "classifier.bias": complex_bias})
    del tensors["classifier.bias"]
    with pytest.raises(WeightsError, match=r"1 missing: classifier\.bias"):
        cliquegraph.load_weights(model, spec, tensors)
    assert same(cliquegraph.model_weights(model, spec), before)


def test_a_model_without_storage_is_refused() -> None:
    with torch.device("meta"):
        model = live(clique(), "torch")
    with pytest.raises(UsageError, match="on the meta device"):
        cliquegraph.load_weights(model, clique(), sampled(clique()))


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_the_models_memory_is_its_own(backend: str) -> None:
    spec = clique()
    model, tensors = live(spec, backend), sampled(spec)
    cliquegraph.load_weights(model, spec, tensors)
    for array in tensors.values():
        array[:] = 7
    assert same(cliquegraph.model_weights(model, spec), sampled(spec))


@pytest.mark.parametrize("model", [3, "model"])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match="is not a model of an installed backend"):
        cliquegraph.model_weights(model, clique())
