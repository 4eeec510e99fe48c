"""The authors' model and ours compute the same: the evidence for our semantics."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import cliquegraph
from cliquegraph import Graph, NetworkSpec, interpret
from cliquegraph.compiler import Compilation
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.plugins.backends import Executor, find_backend
from tests.official import group, official_arrays, official_keys, official_spec, taken

TOLERANCE = 1e-9
RUNS = [(backend, level) for backend in ("torch", "flax") for level in LEVELS]


@cache
def arrays() -> dict[str, Any]:
    return official_arrays()


@cache
def compilation(level: int = DEFAULT_LEVEL) -> Compilation:
    return Compilation(official_spec(), level)


def spec() -> NetworkSpec:
    return compilation().network


def keys() -> dict[str, str]:
    return official_keys(spec(), compilation().lowered)


def weights() -> dict[str, Array]:
    return taken(arrays(), "state", keys())


@cache
def executor(name: str, level: int) -> Executor:
    backend = find_backend(name)
    source = compilation(level).source(backend)
    return backend.executor(source, spec().python_class, compilation(level).graph, "float64")


def images() -> Array:
    return np.asarray(arrays()["input"], np.float64)


def assert_close(found: Array, expected: Array) -> None:
    """Within the tolerance, relative to the tensor's largest number."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def assert_all_close(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert expected
    for name, array in expected.items():
        assert_close(found[name], array)


# ---- the tensors are the same --------------------------------------------------------------


def test_every_tensor_of_theirs_is_one_of_ours() -> None:
    theirs = {key for key in group(arrays(), "state") if not key.endswith("num_batches_tracked")}
    assert set(keys().values()) == theirs
    assert len(set(keys().values())) == len(keys())


def test_every_tensor_has_their_shape() -> None:
    for tensor in compilation().lowered.tensors:
        key = keys()[tensor_name(tensor)]
        assert arrays()[f"state/{key}"].shape == tensor.shape


def test_the_count_of_parameters_is_theirs() -> None:
    (comparison,) = compilation().comparisons
    assert comparison.holds


# ---- the interpreter -----------------------------------------------------------------------


def graph(level: int | None) -> Graph:
    """The graph at a level, or as lowered."""
    return compilation().lowered if level is None else compilation(level).graph


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_the_interpreter_computes_their_logits(level: int | None) -> None:
    result = interpret(graph(level), weights(), images())
    assert_close(result.logits, arrays()["logits_eval"])


def test_folded_weights_give_their_logits() -> None:
    tensors = cliquegraph.fold(spec(), weights())
    result = interpret(Compilation(spec(), inference=True).graph, tensors, images())
    assert_close(result.logits, arrays()["logits_eval"])


@pytest.mark.parametrize("level", [None, *LEVELS])
def test_the_interpreter_computes_their_training_pass(level: int | None) -> None:
    result = interpret(graph(level), weights(), images(), training=True)
    assert_close(result.logits, arrays()["logits_train"])
    after = taken(arrays(), "after", keys())
    assert after.keys() == result.running.keys()
    assert_all_close(result.running, after)


# ---- the backends --------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "level"), RUNS)
def test_a_backend_computes_their_logits(backend: str, level: int) -> None:
    model = executor(backend, level)
    model.load(weights())
    assert_close(model.forward(images(), training=False).logits, arrays()["logits_eval"])


@pytest.mark.parametrize(("backend", "level"), RUNS)
def test_a_backend_computes_their_training_pass(backend: str, level: int) -> None:
    model = executor(backend, level)
    model.load(weights())
    assert_close(model.forward(images(), training=True).logits, arrays()["logits_train"])
    assert_all_close(model.tensors(), taken(arrays(), "after", keys()))


@pytest.mark.parametrize(("backend", "level"), RUNS)
def test_a_backend_computes_their_gradients(backend: str, level: int) -> None:
    model = executor(backend, level)
    model.load(weights())
    _, gradients = model.gradients(images(), arrays()["labels"])
    norms = taken(arrays(), "grad_norm", keys())
    assert norms.keys() == gradients.keys()
    for name, norm in norms.items():
        assert np.linalg.norm(gradients[name]) == pytest.approx(norm, rel=TOLERANCE)
    assert_all_close(gradients, taken(arrays(), "grad", keys()))


# The levels differ in gradients alone, which are compared at each; steps of these take long.
@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_backend_takes_their_sgd_steps(backend: str) -> None:
    model = executor(backend, DEFAULT_LEVEL)
    model.load(weights())
    losses = [model.sgd_step(images(), arrays()["labels"]) for _ in range(3)]
    assert losses == pytest.approx(arrays()["losses_3_sgd_steps"], rel=TOLERANCE)
