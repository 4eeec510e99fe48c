"""ResNets and DenseNets of others compute what ours compute: logits, gradients, statistics, steps.

``fixtures/*.npz`` hold the weights of torchvision's and felixgwu's models, and of stochastic depth
as in its authors' code, an input, and what they computed from it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cliquegraph import NetworkSpec, interpret
from cliquegraph.compiler import Compilation
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.ops import Keep
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
    "stochastic_depth_authors": {
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": {"filters": 8, "norm": True},
        "blocks": [
            {
                "kind": "residual",
                "layers": 3,
                "filters": filters,
                "stride": stride,
                "shortcut": "pad",
                "drop_path": {"last": 0.5},
            }
            for filters, stride in ((8, 1), (16, 2), (32, 2))
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
_ENDS = {"conv1": "stem", "bn1": "bn"}
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
    named = authors_key if name.endswith("authors") else str
    return {
        tensor_name(piece.tensor): named(layout.name(param))
        for param in lowered.params
        for piece in param.pieces
    }


def authors_key(key: str) -> str:
    """The key of stochastic depth's fixture for torchvision's: units are numbered through."""
    owner, field = key.rsplit(".", 1)
    if unit := re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn)(\d)", owner):
        block, number, kind, place = unit.groups()
        owner = f"blocks.{3 * int(block) - 3 + int(number)}.{kind[0]}{place}"
    return f"{_ENDS.get(owner, owner)}.{field}"


def group(name: str, of: str) -> dict[str, Array]:
    """The arrays of one group by canonical name, without those that it lacks."""
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


EXECUTORS: dict[tuple[str, str], Executor] = {}


def executor(name: str, backend: str, level: int) -> Executor:
    """A model of a level; levels that are the same source share it, and its compiled programs."""
    of, found = find_backend(backend), compilation(name, level)
    key = (backend, found.source(of))
    if key not in EXECUTORS:
        EXECUTORS[key] = of.executor(key[1], found.network.python_class, found.graph, "float64")
    return EXECUTORS[key]


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


# ---- stochastic depth --------------------------------------------------------------------------

AUTHORS = "stochastic_depth_authors"


def closed() -> list[Array]:
    """The mask of each unit; those that the fixture names are dropped."""
    units = range(1, len(arrays(AUTHORS)["survival"]) + 1)
    return [np.full((1, 1, 1, 1), float(u not in arrays(AUTHORS)["closed_units"])) for u in units]


def closed_group() -> dict[str, Array]:
    return group(AUTHORS, "after_closed")


def test_the_rates_are_theirs() -> None:
    drops = [node.op for node in compilation(AUTHORS).lowered if isinstance(node.op, Keep)]
    assert [1 - drop.rate for drop in drops] == pytest.approx(list(arrays(AUTHORS)["survival"]))


def test_the_interpreter_leaves_out_units_and_their_statistics() -> None:
    graph = compilation(AUTHORS).lowered
    masks = dict(zip((n for n in graph if isinstance(n.op, Keep)), closed(), strict=True))
    state = state_for(AUTHORS, graph)
    result = interpret(
        graph, state, images(AUTHORS), training=True, mask=lambda node, x: masks[node]
    )
    assert_close(result.logits, arrays(AUTHORS)["logits_train_closed"])
    assert_all_close(result.running, closed_group())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_backend_leaves_out_units_their_statistics_and_their_gradients(
    backend: str, level: int
) -> None:
    model, state = executor(AUTHORS, backend, level), state_for(AUTHORS, compilation(AUTHORS).graph)
    open_again = [np.ones((1, 1, 1, 1))] * len(closed())
    model.set_masks(closed())
    model.load(state)
    found = model.forward(images(AUTHORS), training=True).logits
    assert_close(found, arrays(AUTHORS)["logits_train_closed"])
    after = model.tensors()
    assert_all_close(after, closed_group())
    model.load(state)
    _, gradients = model.gradients(images(AUTHORS), arrays(AUTHORS)["labels"])
    left_out = re.compile(r"block(1\.(v|x)2|2\.(v|x)2|3\.(v|x)3)[._]")  # units 2, 5 and 9
    for name, gradient in gradients.items():
        assert np.any(gradient) != bool(left_out.match(name)), name
    for name in closed_group():
        assert np.array_equal(after[name], state[name]) == bool(left_out.match(name)), name
    model.set_masks(open_again)
