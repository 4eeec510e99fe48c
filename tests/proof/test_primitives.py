"""Rules of JAX's primitives on real numbers against JAX, and traces of a whole model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.program import Context, Program
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.field import PrimeField
from cliquegraph_flax.jaxprs import Flattened
from cliquegraph_flax.primitives import RULES
from cliquegraph_flax.trace import FlaxTracer
from tests.proof.reals import Real

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _maps(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _no_draws(*_: object) -> Array:
    raise AssertionError("nothing is drawn")


def _run(function: Function, *inputs: Array) -> tuple[list[Array], list[Array], set[str]]:
    """What JAX computes, what our rules compute, and the primitives that they have."""
    closed: Any = jax.make_jaxpr(function)(*inputs)
    flat = Flattened("", len(inputs))
    outputs = [
        flat.number(each) for each in flat.run(closed.jaxpr, closed.consts, range(len(inputs)))
    ]
    steps = flat.steps(outputs)
    program = Program(
        steps, 0, None, {}, {}, outputs[0], after={str(at): each for at, each in enumerate(outputs)}
    )
    values = program.run(Context(Real(), _no_draws), dict(enumerate(inputs)))
    expected = jax.tree.leaves(jax.jit(function)(*inputs))
    return (
        list(map(np.asarray, expected)),
        [values[each] for each in outputs],
        {step.operator for step in steps},
    )


def _slope(function: Function, *of: int) -> Function:
    """The gradient of a sum of the results, each times another number."""

    def weighted(*inputs: Any) -> Any:
        result = function(*inputs)
        return jnp.sum(result * np.cos(np.arange(result.size)).reshape(result.shape))

    return jax.grad(weighted, of or (0,))


def _conv(**options: Any) -> Function:
    given = {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), **options}
    layout = ("NHWC", "HWIO", "NHWC")

    def convolve(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(x, w, dimension_numbers=layout, **given)

    return convolve


def _response(x: Any) -> Any:
    pads = ((0, 0), (0, 0), (0, 0), (1, 1))
    squares = lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, 3), (1, 1, 1, 1), pads)
    return x / (1 + 0.1 / 3 * squares) ** 0.75


def _pool(kind: Function, size: int, stride: int, padding: int = 0) -> Function:
    sides = ((padding, padding),) * 2
    return lambda x: kind(x, (size, size), strides=(stride, stride), padding=sides)


_X = _maps(2, 7, 7, 4)
_W = _maps(3, 3, 4, 6)
_DEPTHWISE = _conv(feature_group_count=4)
_STRIDED = _conv(window_strides=(2, 2))
_POSITIVE = np.abs(_maps(3, 4)) + 0.5

SAMPLES: dict[str, tuple[Function, tuple[Array, ...]]] = {
    "add": (lambda a, b: a + b, (_maps(3, 4), _maps(3, 4))),
    "add a constant": (lambda a: 0.1 + a, (_maps(3, 4),)),
    "sub": (lambda a, b: a - b, (_maps(3, 4), _maps(3, 4))),
    "sub from a constant": (lambda a: 1.5 - a, (_maps(3, 4),)),
    "mul": (lambda a, b: a * b, (_maps(3, 4), _maps(3, 4))),
    "mul by a scalar": (lambda a, b: lax.mul(a, b[0]), (_maps(3, 4), _maps(3))),
    "mul by constants": (lambda a: a * np.array([1.0, 0.25, 3.0, -2.0]), (_maps(3, 4),)),
    "div": (lambda a, b: a / b, (_maps(3, 4), _POSITIVE)),
    "div by a constant": (lambda a: a / 3, (_maps(3, 4),)),
    "neg": (lambda a: -a, (_maps(3, 4),)),
    "square": (jnp.square, (_maps(3, 4),)),
    "integer_pow": (lambda a: a**3 + a**-2, (_POSITIVE,)),
    "sqrt": (_slope(jnp.sqrt), (_POSITIVE,)),
    "rsqrt": (lax.rsqrt, (_POSITIVE,)),
    "slope of rsqrt": (_slope(lax.rsqrt), (_POSITIVE,)),
    "pow": (_slope(lambda a: a**0.75), (_POSITIVE,)),
    "logistic": (_slope(nnx.sigmoid), (_maps(3, 4),)),
    "relu": (nnx.relu, (_maps(3, 4),)),
    "slope of relu": (_slope(nnx.relu), (_maps(3, 4),)),
    "lt": (lambda a: jnp.where(lax.lt(jnp.zeros_like(a), a), a, 2.0), (_maps(3, 4),)),
    "select_n": (lambda a, b: jnp.where(a > 0, a, b), (_maps(3, 4), _maps(3, 4))),
    "reduce_sum": (lambda a: a.sum((0, 2)), (_maps(3, 4, 5),)),
    "reduce_max": (lambda a: a.max((1, 2)), (_X,)),
    "var": (_slope(lambda a: a.var((0, 1))), (_maps(3, 4, 5),)),
    "dot_general": (
        lambda a, b: jnp.einsum("bij,bkj->bik", a, b),
        (_maps(2, 3, 4), _maps(2, 5, 4)),
    ),
    "slope of a product": (_slope(lambda a, b: a @ b, 0, 1), (_maps(3, 4), _maps(4, 5))),
    "broadcast_in_dim": (lambda a: lax.broadcast_in_dim(a, (2, 4, 3), (1,)), (_maps(4),)),
    "reshape": (lambda a: a.reshape(2, 6), (_maps(3, 4),)),
    "squeeze": (lambda a: a[:, 0].squeeze(1), (_maps(3, 2, 1),)),
    "expand_dims": (lambda a: lax.expand_dims(a, (1,)), (_maps(3, 4),)),
    "transpose": (lambda a: a.transpose(2, 0, 1), (_maps(3, 4, 5),)),
    "rev": (lambda a: lax.rev(a, (0,)), (_maps(3, 4),)),
    "concatenate": (lambda a: jnp.concatenate([a, jnp.ones((3, 2)), a], 1), (_maps(3, 4),)),
    "stack": (lambda a, b: jnp.stack((a, b)), (_maps(3, 4), _maps(3, 4))),
    "split": (lambda a: jnp.split(a, [1, 3], 1), (_maps(3, 4),)),
    "slice": (lambda a: a[1:, ::2], (_maps(3, 4),)),
    "dynamic_slice": (lambda a: lax.dynamic_slice(a, (1, 0), (2, 3)), (_maps(3, 4),)),
    "dynamic_update_slice": (
        lambda a, b: lax.dynamic_update_slice(a, b, (1, 2)),
        (_maps(3, 4), _maps(2, 2)),
    ),
    "pad": (lambda a: lax.pad(a, 0.0, ((-1, 2, 1), (0, -1, 0))), (_maps(3, 4),)),
    "conv": (_conv(), (_X, _W)),
    "slopes of conv": (_slope(_conv(), 0, 1), (_X, _W)),
    "strided conv": (_slope(_STRIDED, 0, 1), (_X, _W)),
    "depthwise conv": (_DEPTHWISE, (_X, _maps(3, 3, 1, 4))),
    "slopes of depthwise conv": (_slope(_DEPTHWISE, 0, 1), (_X, _maps(3, 3, 1, 4))),
    "grouped conv": (
        _slope(_conv(feature_group_count=2), 0, 1),
        (_X, _maps(3, 3, 2, 6)),
    ),
    "avg_pool": (_slope(_pool(nnx.avg_pool, 2, 2)), (_X,)),
    "max_pool": (_pool(nnx.max_pool, 3, 2, 1), (_X,)),
    "slope of max_pool": (_slope(_pool(nnx.max_pool, 3, 2, 1)), (_X,)),
    "local response": (_slope(_response), (_X,)),
    "upsampling": (_slope(lambda a: jnp.repeat(jnp.repeat(a, 2, 1), 2, 2)), (_X,)),
    "stop_gradient": (_slope(lambda a: a * lax.stop_gradient(a)), (_maps(3, 4),)),
    "checkpoint": (_slope(jax.checkpoint(lambda a: nnx.relu(a) * a)), (_maps(3, 4),)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_rules_compute_what_jax_does(name: str) -> None:
    function, inputs = SAMPLES[name]
    expected, ours, _ = _run(function, *inputs)
    for theirs, own in zip(expected, ours, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-12, atol=1e-12)


def test_each_rule_has_a_sample() -> None:
    used = {each for function, inputs in SAMPLES.values() for each in _run(function, *inputs)[2]}
    # Draws are those of whole models; these primitives are written in two ways.
    assert set(RULES) - used <= {"draw", "stack", "unstack", "expand_dims"}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (jnp.exp, "exp is unknown"),
        (lambda a: jnp.maximum(a, 1.0), "compares values"),
        (lambda a: a.astype(jnp.float32), "float32"),
        (lambda a: a**a, "exponent"),
        (lambda a: a + jax.random.normal(jax.random.key(0), a.shape), "draws otherwise"),
    ],
)
def test_others_have_no_meaning(function: Function, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        _run(function, _POSITIVE)


# ---- whole models --------------------------------------------------------------------------------


def _source(level: int, name: str = "quickstart") -> tuple[str, str]:
    compiled = Compilation(cliquegraph.load(f"specs/{name}.yaml"), level)
    source = compiled.source(find_backend("flax"))
    return source, source.split('__all__ = ["')[1].split('"')[0]


def _tracer(source: str, class_name: str) -> FlaxTracer:
    return FlaxTracer.of_source(source, class_name, "network")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_trace_computes_what_the_model_does(level: int) -> None:
    tracer = _tracer(*_source(level))
    program = tracer.trace((3, 1, 6, 6), "training", gradients=True)
    random = np.random.default_rng(0)
    tensors = {name: random.uniform(0.5, 1.5, shape) for name, shape in tracer.shapes.items()}
    images, cotangent = random.normal(size=(3, 6, 6, 1)), random.normal(size=(3, 10))
    given = {number: tensors[name] for name, number in program.tensors.items()}
    assert program.cotangent is not None
    given |= {program.images: images, program.cotangent: cotangent}
    values = program.run(Context(Real(), _no_draws), given)

    model: Any = tracer.model
    for name, tensor in tensors.items():
        variable = model
        for part in name.split("."):
            variable = getattr(variable, part)
        variable[...] = jnp.asarray(tensor)
    model.train()
    definition, parameters, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def step(parameters: Any) -> Any:
        def product(parameters: Any) -> Any:
            copy = nnx.merge(definition, parameters, rest, copy=True)
            logits = copy(jnp.asarray(images))
            return jnp.sum(logits * cotangent), (logits, nnx.state(copy, nnx.BatchStat))

        features = nnx.merge(definition, parameters, rest, copy=True).forward_features(images)
        return *jax.grad(product, has_aux=True)(parameters), features

    slopes, (logits, state), features = step(parameters)
    np.testing.assert_allclose(values[program.logits], logits, rtol=1e-10)
    for number, maps in zip(program.features, features, strict=True):
        np.testing.assert_allclose(values[number], maps, rtol=1e-10)
    for named, theirs in ((program.gradients, slopes), (program.after, state)):
        flat = {".".join(map(str, path)): each for path, each in nnx.to_flat_state(theirs)}
        assert flat.keys() == named.keys()
        scale = max(float(jnp.abs(each[...]).max()) for each in flat.values())
        for name, each in flat.items():
            number = named[name]
            assert number is not None
            np.testing.assert_allclose(values[number], each[...], rtol=1e-10, atol=1e-10 * scale)


def test_digest_is_of_the_function() -> None:
    source, name = _source(0)
    shape = (3, 1, 6, 6)
    digest = _tracer(source, name).trace(shape, "training", gradients=True).digest
    commented = source.replace("x = nnx.relu", "# a comment\n        x = nnx.relu")
    assert _tracer(commented, name).trace(shape, "training", gradients=True).digest == digest
    eps = source.replace("1e-5", "1.00001e-5")
    assert _tracer(eps, name).trace(shape, "training", gradients=True).digest != digest


def test_lines_are_those_of_the_source() -> None:
    source, name = _source(0)
    program = _tracer(source, name).trace((3, 1, 6, 6), "evaluation")
    lines = source.splitlines()
    called = {(s.operator, lines[s.line - 1].strip()) for s in program.steps if s.line is not None}
    assert ("max", "x = nnx.relu(self.norm(x))") in called
    assert all(step.line is not None for step in program.steps)


def test_activations_are_named() -> None:
    program = _tracer(*_source(0)).trace((3, 1, 6, 6), "evaluation", activations=True)
    assert {"block1.X0", "block1.X1@1", "block2.X4@2"} <= program.activations.keys()


def test_draws_are_numbered() -> None:
    source, name = _source(0, "fractalnet20")
    program = _tracer(source, name).trace((3, 3, 32, 32), "training")
    draws = [step.attributes for step in program.steps if step.operator == "draw"]
    assert any("'column', 0.5" in each and "number=-1" in each for each in draws)
    assert any("'element', Fraction(1, 10)" in each for each in draws)
    assert any("'join', 0.15, (" in each for each in draws)


def test_classes_that_draw_must_be_the_generated_ones() -> None:
    source, name = _source(0, "fractalnet20")
    changed = source.replace("jnp.minimum(draws.max(), self.rate)", "self.rate")
    assert changed != source
    with pytest.raises(VerificationError, match="ColumnJoinWeights draws otherwise than generated"):
        _tracer(changed, name).trace((3, 3, 32, 32), "training")


def test_fields_compute_it_too() -> None:
    tracer = _tracer(*_source(0))
    program = tracer.trace((3, 1, 6, 6), "training", gradients=True)
    field = PrimeField()
    given = {number: field.draw(*tracer.shapes[name]) for name, number in program.tensors.items()}
    assert program.cotangent is not None
    given |= {program.images: field.draw(3, 6, 6, 1), program.cotangent: field.draw(3, 10)}
    values = program.run(Context(field, _no_draws), given)
    assert values[program.logits].shape == (len(field.primes), 3, 10)
