"""Models of others compute what ours compute: logits, gradients, statistics, steps.

ResNets, DenseNets and CORnet-S by their authors' classes or torchvision's, FractalNet by a port;
stochastic depth after its authors' code, and RCNN after its equations.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from cliquegraph import interpret
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.ops import Keep
from cliquegraph.ir.storage import Array, Labels, agree
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import Executor, Sgd, find_backend
from tests.semantics.published import SPECS, about, arrays, compilation, group, keys

TOLERANCE = 1e-9

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
    ("rcnn_ref", "flax", 2),
    ("fractalnet_khanrc", "flax", 1),
    ("cornet_s_official", "flax", 2),
]


def stores_once(graph: Graph) -> bool:
    """Whether a level stores statistics once that several readers have.

    The DenseNet's are drawn at random, a different one for each reader of a feature: such weights
    are refused there. Training does not read them.
    """
    return any(param.mirrors for param in graph.params)


def state_for(name: str, graph: Graph) -> dict[str, Array]:
    """Their weights, with statistics that ``graph`` can store."""
    found = group(name, "state")
    agree(graph.params, found)
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


def losses_at_rate(
    rate: float, model: Executor, state: dict[str, Array], x: Array, labels: Labels
) -> list[float]:
    """The losses before three SGD steps at another rate, of a network without normalizations."""
    weights, momentum, losses = dict(state), {}, []
    for _ in range(3):
        model.load(weights)
        loss, gradients = model.gradients(x, labels)
        losses.append(loss)
        for name, gradient in gradients.items():
            slope = gradient + Sgd.weight_decay * weights[name]
            momentum[name] = Sgd.momentum * momentum.get(name, 0.0) + slope
            weights[name] = weights[name] - rate * (slope + Sgd.momentum * momentum[name])
    return losses


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
    assert group(name, "grad")
    assert_all_close(gradients, group(name, "grad"))
    rate = about(name)["sgd"]["lr"]
    if rate == Sgd.learning_rate:
        model.load(state)
        losses = [model.sgd_step(images(name), labels) for _ in range(3)]
    else:
        losses = losses_at_rate(rate, model, state, images(name), labels)
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
    assert result.running.keys() == closed_group().keys()
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
