"""Rules of ATen's operators on elements, of sums and of products of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch._ops import OpOverload

from cliquegraph.semantics.arithmetic import Array, rational
from cliquegraph.semantics.field import Exact
from cliquegraph.semantics.windows import product
from cliquegraph_torch.aten_rules import (
    Operand,
    Rule,
    aligned,
    averaged,
    axes,
    filled,
    in_place,
    into,
    inverse_root,
    moments,
    number,
    require,
    rule,
    summed,
)

_ATEN = torch.ops.aten

# ---- arithmetic ------------------------------------------------------------------------------


@rule(_ATEN.add.Tensor, _ATEN.add.Scalar)
def add(exact: Exact, a: Operand, b: Operand, alpha: float = 1) -> Array:
    """a + alpha b."""
    if isinstance(b, np.ndarray):
        scaled = b if alpha == 1 else exact.scale(b, number(alpha))
        return exact.add(*aligned(exact, _array(exact, a), scaled))
    return exact.offset(_array(exact, a), number(b) * number(alpha))


@rule(_ATEN.sub.Tensor, _ATEN.sub.Scalar)
def subtract(exact: Exact, a: Operand, b: Operand, alpha: float = 1) -> Array:
    """a - alpha b."""
    if isinstance(b, np.ndarray) and alpha == 1:
        return exact.subtract(*aligned(exact, _array(exact, a), b))
    return add(exact, a, b, -alpha)


@rule(_ATEN.rsub.Scalar, _ATEN.rsub.Tensor)
def subtract_from(exact: Exact, a: Operand, b: Operand, alpha: float = 1) -> Array:
    """b - alpha a."""
    return subtract(exact, b, a, alpha)


@rule(_ATEN.mul.Tensor, _ATEN.mul.Scalar)
def multiply(exact: Exact, a: Operand, b: Operand) -> Array:
    """a × b."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return exact.multiply(*aligned(exact, a, b))
    array, factor = (a, b) if isinstance(a, np.ndarray) else (b, a)
    assert isinstance(array, np.ndarray)  # noqa: S101  # an operator has one tensor at least
    assert not isinstance(factor, np.ndarray)  # noqa: S101  # then it is a number
    return exact.scale(array, number(factor))


@rule(_ATEN.div.Tensor, _ATEN.div.Scalar)
def divide(exact: Exact, a: Operand, b: Operand) -> Array:
    """a / b."""
    if isinstance(b, np.ndarray):
        return multiply(exact, a, exact.inverse(b))
    require(b != 0, "of 0 as a divisor")
    return exact.scale(_array(exact, a), 1 / rational(number(b)))


@rule(_ATEN.neg.default)
def negate(exact: Exact, a: Array) -> Array:
    """-a."""
    return exact.scale(a, -1)


@rule(_ATEN.addcmul.default)
def add_product(exact: Exact, a: Array, b: Array, c: Array, value: float = 1) -> Array:
    """a + value b c."""
    return add(exact, a, multiply(exact, b, c), value)


@rule(_ATEN.lerp.Scalar, _ATEN.lerp.Tensor)
def interpolate(exact: Exact, a: Array, b: Array, weight: Operand) -> Array:
    """a + weight (b - a)."""
    return add(exact, a, multiply(exact, subtract(exact, b, a), weight))


@rule(_ATEN.where.self)
def choose(exact: Exact, condition: Array, a: Array, b: Array) -> Array:
    """a where the condition is 1, b where it is 0."""
    return add(exact, b, multiply(exact, condition, subtract(exact, a, b)))


@rule(_ATEN.square.default)
def square(exact: Exact, a: Array) -> Array:
    """a²."""
    return exact.multiply(a, a)


_PLACES: dict[tuple[OpOverload, ...], Rule] = {
    (_ATEN.add_.Tensor, _ATEN.add_.Scalar): add,
    (_ATEN.sub_.Tensor, _ATEN.sub_.Scalar): subtract,
    (_ATEN.mul_.Tensor, _ATEN.mul_.Scalar): multiply,
    (_ATEN.div_.Tensor, _ATEN.div_.Scalar): divide,
    (_ATEN.lerp_.Tensor, _ATEN.lerp_.Scalar): interpolate,
    (_ATEN.neg_.default,): negate,
    (_ATEN.addcmul_.default,): add_product,
}
for _operators, _computes in _PLACES.items():
    rule(*_operators)(in_place(_computes))
_OUTPUTS: dict[OpOverload, Rule] = {
    _ATEN.add.out: add,
    _ATEN.sub.out: subtract,
    _ATEN.mul.out: multiply,
    _ATEN.div.out: divide,
    _ATEN.addcmul.out: add_product,
}
for _operator, _computes in _OUTPUTS.items():
    rule(_operator)(into(_computes))


# ---- functions -----------------------------------------------------------------------------


@rule(_ATEN.pow.Tensor_Scalar)
def power(exact: Exact, a: Array, exponent: float) -> Array:
    """A to a constant power."""
    return exact.power(a, number(exponent))


_FUNCTIONS: dict[str, Callable[[Exact, Array], Array]] = {
    "relu": lambda exact, a: exact.relu(a),
    "sigmoid": lambda exact, a: exact.sigmoid(a),
    "sqrt": lambda exact, a: exact.root(a),
    "rsqrt": inverse_root,
    "reciprocal": lambda exact, a: exact.inverse(a),
}
for _name, _function in _FUNCTIONS.items():
    rule(getattr(_ATEN, _name).default)(_function)
    rule(getattr(_ATEN, f"{_name}_").default)(in_place(_function))


@rule(_ATEN.threshold_backward.default)
def relu_backward(exact: Exact, grad: Array, result: Array, threshold: float) -> Array:
    """The gradient of ReLU, of its result."""
    require(threshold == 0, f"of a threshold of {threshold}")
    return multiply(exact, grad, exact.step(result))


rule(_ATEN.threshold_backward.grad_input)(into(relu_backward, "grad_input"))


@rule(_ATEN.sigmoid_backward.default)
def sigmoid_backward(exact: Exact, grad: Array, result: Array) -> Array:
    """The gradient of the sigmoid, of its result."""
    slope = exact.subtract(result, exact.multiply(result, result))
    return exact.multiply(grad, slope)


# ---- sums ----------------------------------------------------------------------------------


@rule(_ATEN.sum.dim_IntList, _ATEN.sum.default)
def total(
    exact: Exact,
    x: Array,
    dims: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: object = None,
) -> Array:
    """The sum over dimensions, of all of them if there are none."""
    return summed(exact, x, axes(exact, x, dims), keepdim)


@rule(_ATEN.mean.dim, _ATEN.mean.default)
def mean(
    exact: Exact,
    x: Array,
    dims: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: object = None,
) -> Array:
    """The mean over dimensions."""
    return averaged(exact, x, axes(exact, x, dims), keepdim)


@rule(_ATEN.var_mean.correction)
def variance_and_mean(
    exact: Exact,
    x: Array,
    dims: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Array, Array]:
    """The variance over dimensions, and the mean."""
    over = axes(exact, x, dims)
    middle, biased = moments(exact, x, over)
    count = int(np.prod([x.shape[each] for each in over]))
    freedom = rational(count) - rational(number(1 if correction is None else correction))
    require(freedom > 0, "of so few elements")
    unbiased = exact.scale(biased, count / freedom)
    if keepdim:
        return unbiased, middle
    return unbiased.squeeze(over), middle.squeeze(over)


@rule(_ATEN.var.correction)
def variance(
    exact: Exact,
    x: Array,
    dims: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Array:
    """The variance over dimensions."""
    both = variance_and_mean(exact, x, dims, correction=correction, keepdim=keepdim)
    return both[0]


# ---- products of matrices --------------------------------------------------------------------


@rule(_ATEN.mm.default, _ATEN.bmm.default)
def matrix_product(exact: Exact, a: Array, b: Array) -> Array:
    """The product of matrices, or of each of several."""
    return product(exact, a, b)


@rule(_ATEN.addmm.default, _ATEN.baddbmm.default)
def affine(
    exact: Exact, bias: Array, a: Array, b: Array, beta: float = 1, alpha: float = 1
) -> Array:
    """Beta bias + alpha a b."""
    sums = product(exact, a, b)
    sums = sums if alpha == 1 else exact.scale(sums, number(alpha))
    return add(exact, sums, bias, beta)


rule(_ATEN.addmm_.default)(in_place(affine))


@rule(_ATEN.mv.default)
def matrix_vector(exact: Exact, a: Array, b: Array) -> Array:
    """The product of a matrix and a vector."""
    return product(exact, a, b[..., None])[..., 0]


@rule(_ATEN.dot.default)
def inner(exact: Exact, a: Array, b: Array) -> Array:
    """The inner product of two vectors."""
    return exact.total(exact.multiply(a, b), (-1,))


def _array(exact: Exact, a: Operand) -> Array:
    return a if isinstance(a, np.ndarray) else filled(exact, (), a)
