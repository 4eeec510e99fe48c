"""Generated Flax models at every -O level: what JAX computes for a gradient, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax import Array
from jax.extend.core import jaxprs_in_params

import cliquegraph
from cliquegraph import NetworkSpec, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.ir import ops
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from tests.networks import EVERY_KEY, shipped

Loss = Callable[[Any, Any, Array], Array]


@lru_cache(maxsize=4)
def loss_of(spec: NetworkSpec, level: int) -> tuple[Loss, Any, Any]:
    """The loss as a function of parameters, other state and images; shapes of the first two."""
    source = cliquegraph.compile(spec, "flax", level=level)
    create = getattr(load_source(source, "generated"), spec.python_class)
    model = nnx.eval_shape(lambda: create(rngs=nnx.Rngs(0)))
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Dropout):
            module.rate = 0.0
    definition, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters: Any, rest: Any, images: Array) -> Array:
        logits = nnx.merge(definition, parameters, rest, copy=True)(images)
        return jax.nn.logsumexp(logits, axis=1).sum()

    return loss, parameters, rest


def images_of(spec: NetworkSpec, batch: int = 3) -> jax.ShapeDtypeStruct:
    size = spec.input
    return jax.ShapeDtypeStruct((batch, size.height, size.width, size.channels), np.float32)


# ---- what it costs -------------------------------------------------------------------------


def equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program and of those that it calls, such as a checkpoint's body."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def is_convolution(equation: Any) -> bool:
    """Tell whether an equation is a convolution, or the product of maps that is one of 1×1."""
    if equation.primitive.name == "dot_general":
        return any(len(each.aval.shape) == 4 for each in equation.invars)
    return bool(equation.primitive.name == CONVOLUTION)


# Between them every kind of step; to trace a gradient takes JAX a second for each level.
TRACED = (
    *("abc", "schedule", "shared_norm", "one_stage", "post_activation"),
    *("dropout", "dense", "residual_mixed"),
)


@pytest.mark.parametrize("name", TRACED)
def test_no_level_costs_a_convolution(name: str) -> None:
    spec = EVERY_KEY[name]
    executed, counted, means = [], [], 0
    for level in LEVELS:
        loss, parameters, rest = loss_of(spec, level)
        jaxpr = jax.make_jaxpr(jax.grad(loss))(parameters, rest, images_of(spec))
        counted.append(sum(map(is_convolution, equations(jaxpr.jaxpr))))
        graph = Compilation(spec, level).graph
        # What attention reads is a convolution of one pixel.
        means = sum(isinstance(node.op, ops.GlobalMean) for node in graph)
        executed.append(sum(isinstance(node.op, ops.Conv) for node in graph) - means)
    # Forwards once, and for the gradients of what each reads and of its kernel; a checkpoint's
    # body holds no convolution that only the forward pass needs. Images have no gradient.
    assert counted[0] <= 3 * executed[0] - 1
    saved = executed[0] - executed[1]  # of steps that nothing needs, which have no gradient
    above = counted[0] - saved + 3 * means
    assert counted == [counted[0], above, above]


CONVOLUTION = "conv_general_dilated"

# ---- what JAX keeps ------------------------------------------------------------------------


def kept(spec: NetworkSpec, level: int, batch: int) -> int:
    """Bytes that the forward pass hands to the backward pass."""
    loss, *state = loss_of(spec, level)

    def residuals(parameters: Any, rest: Any, images: Array) -> Any:
        return jax.vjp(lambda each: loss(each, rest, images), parameters)[1]

    shapes = jax.eval_shape(residuals, *state, images_of(spec, batch))
    return sum(each.size * each.dtype.itemsize for each in jax.tree.leaves(shapes))


def kept_for_an_image(spec: NetworkSpec, level: int) -> int:
    return kept(spec, level, 3) - kept(spec, level, 2)  # without parameters and statistics


@pytest.mark.parametrize(
    "spec",
    [shipped("quickstart"), shipped("densenet_k12_t36", "blocks.*.layers=5", "expect={}")],
    ids=["clique", "dense"],
)
def test_each_level_keeps_less(spec: NetworkSpec) -> None:
    literal, shared, recomputed = (kept_for_an_image(spec, level) for level in LEVELS)
    assert recomputed < shared < literal
    assert recomputed < 0.3 * literal


def test_s3_keeps_little_more_than_what_its_convolutions_write() -> None:
    spec = shipped("cliquenet_s3")
    convolutions = (n for n in Compilation(spec, 0).graph if isinstance(n.op, ops.Conv))
    written = 4 * sum(node.output.type.elements for node in convolutions)
    assert kept_for_an_image(spec, 0) > 10 * written
    # What -O2 convolves behind a pool is kept too: the pooled maps.
    assert kept_for_an_image(spec, 2) < 1.35 * written


# ---- canonical weights ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["abc", "schedule"])
def test_weights_move_through_all_levels_bit_for_bit(name: str) -> None:
    backend = find_backend("flax")
    tensors = sample_tensors(Compilation(EVERY_KEY[name], max(LEVELS)).graph)
    for level in (0, 1, 2, 0):
        each = Compilation(EVERY_KEY[name], level)
        executor = backend.executor(each.source(backend), "Small", each.graph, "float64")
        executor.load(tensors)
        found = executor.tensors()
        assert found.keys() == tensors.keys()
        assert all(np.array_equal(found[name], array) for name, array in tensors.items())
        tensors = found
