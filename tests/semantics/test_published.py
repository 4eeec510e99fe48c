"""ResNets and DenseNets of others compute what ours compute: logits, gradients, statistics, steps.

``fixtures/*.npz`` hold the weights of torchvision's and felixgwu's models, an input, and what they
computed from it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cliquegraph import NetworkSpec, interpret
from cliquegraph.compiler import Compilation
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array, agree
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import Executor, find_backend
from cliquegraph.weights.torchvision import TorchvisionLayout

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 1e-9

_POOL = {"kind": "max", "kernel": 3, "stride": 2}
_CHAIN = {"transition": "none", "readout": {"blocks": "last", "norm": False}}
SPECS: dict[str, dict[str, Any]] = {
    "resnet_basic_torchvision": {
        "input": {"channels": 3, "height": 64, "width": 64},
        "stem": {"filters": 6, "kernel": 7, "stride": 2, "norm": True, "pool": _POOL},
        "blocks": [
            {"kind": "residual", "layers": 2, "filters": 6},
            {"kind": "residual", "layers": 2, "filters": 12, "stride": 2},
            {"kind": "residual", "layers": 3, "filters": 24, "stride": 2},
            {"kind": "residual", "layers": 2, "filters": 48, "stride": 2},
        ],
        **_CHAIN,
    },
    "resnet_cifar_a_felixgwu": {
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": {"filters": 16, "norm": True},
        "blocks": [
            {
                "kind": "residual",
                "layers": 3,
                "filters": filters,
                "stride": stride,
                "shortcut": "pad",
            }
            for filters, stride in ((16, 1), (32, 2), (64, 2))
        ],
        **_CHAIN,
    },
    "densenet_bc_torchvision": {
        "input": {"channels": 3, "height": 64, "width": 64},
        "stem": {"filters": 8, "kernel": 7, "stride": 2, "norm": True, "pool": _POOL},
        "blocks": [
            {"kind": "dense", "layers": layers, "filters": 4, "bottleneck": 4}
            for layers in (3, 4, 5, 3)
        ],
        "transition": {"compression": 0.5},
        "readout": {"blocks": "last"},
    },
}
RUNS = [
    (name, backend, level) for name in SPECS for backend in ("torch", "flax") for level in LEVELS
]
# Gradients are what JAX compiles longest: each network at one level. Each level is compared with
# the others' gradients on networks of every key (tests/proof).
TRAINED = [
    *((name, "torch", level) for name in SPECS for level in LEVELS),
    ("resnet_basic_torchvision", "flax", 2),
    ("resnet_cifar_a_felixgwu", "flax", 1),
    ("densenet_bc_torchvision", "flax", 2),
]


@cache
def about(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


@cache
def arrays(name: str) -> dict[str, Any]:
    with np.load(FIXTURES / f"{name}.npz") as loaded:
        return dict(loaded)


@cache
def compilation(name: str, level: int = 0) -> Compilation:
    document = {"cliquegraph": 1, "name": name, "classifier": {"classes": 10}, **SPECS[name]}
    return Compilation(NetworkSpec.model_validate(document), level)


@cache
def keys(name: str) -> dict[str, str]:
    """Their key of each canonical name."""
    lowered = compilation(name).lowered
    layout = TorchvisionLayout(lowered)
    return {
        tensor_name(piece.tensor): layout.name(param)
        for param in lowered.params
        for piece in param.pieces
    }


def group(name: str, of: str) -> dict[str, Array]:
    """The arrays of one group by canonical name; what it lacks is left out."""
    pairs = ((ours, f"{of}/{theirs}") for ours, theirs in keys(name).items())
    return {ours: arrays(name)[key] for ours, key in pairs if key in arrays(name)}


def stores_once(graph: Graph) -> bool:
    """Whether a level stores statistics once that several readers have.

    The DenseNet's are drawn at random, a different one for each reader of a feature: such weights
    are refused there. Training does not read them.
    """
    return any(param.mirrors for param in graph.params)


def state_for(name: str, graph: Graph) -> dict[str, Array]:
    """Their weights, with statistics that ``graph`` can store."""
    found = group(name, "state")
    agree(graph, found)
    return found


@cache
def executor(name: str, backend: str, level: int) -> Executor:
    of, found = find_backend(backend), compilation(name, level)
    return of.executor(found.source(of), found.network.python_class, found.graph, "float64")


def images(name: str) -> Array:
    return np.asarray(arrays(name)["input"], np.float64)


def assert_close(found: Array, expected: Array) -> None:
    """Within the tolerance, relative to the tensor's largest number."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def assert_all_close(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert expected
    for name, array in expected.items():
        assert_close(found[name], array)


@pytest.mark.parametrize("name", SPECS)
def test_tensors_and_figures_are_theirs(name: str) -> None:
    theirs = {key.removeprefix("state/") for key in arrays(name) if key.startswith("state/")}
    theirs = {key for key in theirs if not key.endswith("num_batches_tracked")}
    assert set(keys(name).values()) == theirs
    for tensor in compilation(name).lowered.tensors:
        assert arrays(name)[f"state/{keys(name)[tensor_name(tensor)]}"].shape == tensor.shape
    total = compilation(name).cost.total
    expected = about(name)
    assert (total.parameters, total.macs) == (expected["parameters"], expected["macs_per_image"])


@pytest.mark.parametrize("level", [None, *LEVELS])
@pytest.mark.parametrize("name", SPECS)
def test_the_interpreter_computes_their_logits_and_statistics(name: str, level: int | None) -> None:
    graph = compilation(name).lowered if level is None else compilation(name, level).graph
    state = state_for(name, graph)
    result = interpret(graph, state, images(name), training=True)
    assert_close(result.logits, arrays(name)["logits_train"])
    if stores_once(graph):
        return
    assert_close(interpret(graph, state, images(name)).logits, arrays(name)["logits_eval"])
    after = group(name, "after")
    assert after.keys() == result.running.keys()
    assert_all_close(result.running, after)


@pytest.mark.parametrize(("name", "backend", "level"), RUNS)
def test_a_backend_computes_what_they_compute(name: str, backend: str, level: int) -> None:
    graph, model = compilation(name, level).graph, executor(name, backend, level)
    model.load(state_for(name, graph))
    evaluated = model.forward(images(name), training=False).logits
    assert_close(model.forward(images(name), training=True).logits, arrays(name)["logits_train"])
    if not stores_once(graph):
        assert_close(evaluated, arrays(name)["logits_eval"])
        assert_all_close(model.tensors(), group(name, "after"))


@pytest.mark.parametrize(("name", "backend", "level"), TRAINED)
def test_a_backend_trains_as_they_do(name: str, backend: str, level: int) -> None:
    model, labels = executor(name, backend, level), arrays(name)["labels"]
    state = state_for(name, compilation(name, level).graph)
    model.load(state)
    _, gradients = model.gradients(images(name), labels)
    norms = group(name, "grad_norm")
    assert norms.keys() == gradients.keys()
    for tensor, norm in norms.items():
        assert np.linalg.norm(gradients[tensor]) == pytest.approx(norm, rel=TOLERANCE)
    assert_all_close(gradients, group(name, "grad"))
    model.load(state)
    losses = [model.sgd_step(images(name), labels) for _ in range(3)]
    assert losses == pytest.approx(arrays(name)["losses_3_sgd_steps"], rel=TOLERANCE)
