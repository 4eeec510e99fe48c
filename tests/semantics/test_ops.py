"""Ops alone: against plain definitions in float64, by identities in a prime field, and degrees."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cliquegraph.ir import ops
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.types import Field, Init, MapType, Part, Section, Slot, Tensor, whole_tensor
from cliquegraph.semantics.arithmetic import (
    FLOAT64,
    Arithmetic,
    Array,
    average_pool,
    convolve,
    local_response,
    max_pool,
    upsample,
)
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import PrimeField
from cliquegraph.semantics.interpret import _Frame, evaluate
from tests.function import EXACT

Tensors = dict[Field, Array]


def apply(op: ops.Op, x: Array, tensors: Tensors, arithmetic: Arithmetic = FLOAT64) -> Array:
    """The result of one op."""
    section, lead = Section(Part.BLOCK, 1), arithmetic.lead
    storage = {
        whole_tensor(Tensor(Slot(section, "op"), field, array.shape[lead:], Init.ZEROS)): array
        for field, array in tensors.items()
    }
    value = Value(MapType(*x.shape[-3:]), "x")
    operands = tuple(param.whole() for param in storage)
    outputs = tuple(Value(each, "y") for each in op.infer((value.type,)))
    node = Node(op, (value,), operands, outputs, Origin(section))
    result = evaluate(op, node, [x], _Frame(storage, False, None, arithmetic))
    (type_,) = op.infer((value.type,))
    sides = (type_.height, type_.width) if isinstance(type_, MapType) else ()
    assert result.shape[lead + 1 :] == (type_.channels, *sides)
    return result


def draw(op: ops.Op, arithmetic: Any, x: tuple[int, ...] = (2, 4, 6, 6)) -> tuple[Array, Tensors]:
    """Random maps, and an op's tensors for them."""
    shapes = op.param_shapes((MapType(*x[1:]),))
    return arithmetic.draw(*x), {field: arithmetic.draw(*each) for field, each in shapes.items()}


class Normal:
    """Draws floating-point numbers."""

    def draw(self, *shape: int) -> Array:
        """Normal, of a generator for the shape."""
        return np.random.default_rng(shape).normal(size=shape)


# ---- plain definitions -----------------------------------------------------------------------


def plain_group_norm(x: Array, tensors: Tensors, op: ops.GroupNorm) -> Array:
    y = np.empty_like(x)
    width = x.shape[1] // op.groups
    for n in range(len(x)):
        for group in range(op.groups):
            part = slice(group * width, (group + 1) * width)
            of_group = x[n, part]
            y[n, part] = (of_group - of_group.mean()) / np.sqrt(of_group.var() + 1e-5)
    scale, bias = tensors[Field.SCALE], tensors[Field.BIAS]
    return y * scale[:, None, None] + bias[:, None, None]


def plain_local_response(x: Array, tensors: Tensors, op: ops.LocalResponse) -> Array:
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        around = x[:, max(0, c - op.size // 2) : c + (op.size - 1) // 2 + 1]
        total = (around**2).sum(axis=1)
        y[:, c] = x[:, c] / (1 + op.alpha / op.size * total) ** op.beta
    return y


def plain_depthwise(x: Array, tensors: Tensors, op: ops.Conv) -> Array:
    weight = tensors[Field.WEIGHT]
    half, size = (op.kernel - 1) // 2, op.kernel
    padded = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half)))
    rows = range(0, padded.shape[2] - size + 1, op.stride)
    columns = range(0, padded.shape[3] - size + 1, op.stride)
    return np.array(
        [
            [
                [[(m[i : i + size, j : j + size] * w[0]).sum() for j in columns] for i in rows]
                for m, w in zip(image, weight, strict=True)
            ]
            for image in padded
        ]
    )


def plain_biased(x: Array, tensors: Tensors, op: ops.Conv) -> Array:
    size, weight = x.shape[2], tensors[Field.WEIGHT]
    y = np.zeros((len(x), op.filters, size, size))
    for i in range(size):
        for j in range(size):
            y[:, :, i, j] = x[:, :, i, j] @ weight[:, :, 0, 0].T + tensors[Field.BIAS]
    return y


def plain_zeros(x: Array, tensors: Tensors, op: ops.Zeros) -> Array:
    return np.zeros((len(x), 5, 3, 3))


Plain = Callable[[Array, Tensors, Any], Array]
PLAIN: list[tuple[ops.Op, Plain]] = [
    (ops.GroupNorm(1), plain_group_norm),
    (ops.GroupNorm(2), plain_group_norm),
    (ops.GroupNorm(4), plain_group_norm),
    (ops.LocalResponse(1, 0.5, 0.75), plain_local_response),
    (ops.LocalResponse(2, 0.5, 0.75), plain_local_response),
    (ops.LocalResponse(3, 1e-4, 0.5), plain_local_response),
    (ops.LocalResponse(21, 1e-3, 0.75), plain_local_response),
    (ops.Conv(4, 3, depthwise=True), plain_depthwise),
    (ops.Conv(4, 5, stride=2, depthwise=True), plain_depthwise),
    (ops.Conv(3, 1, bias=True), plain_biased),
    (ops.Bias(), lambda x, tensors, op: x + tensors[Field.BIAS].reshape(1, 4, 1, 1)),
    (ops.Gate(), lambda x, tensors, op: x / (1 + np.exp(-tensors[Field.WEIGHT][0]))),
    (ops.GlobalMaxPool(), lambda x, tensors, op: np.amax(x, (2, 3))),
    (ops.Upsample(3), lambda x, tensors, op: np.kron(x, np.ones((1, 1, 3, 3)))),
    (ops.Zeros(5, 3, 2, 1), plain_zeros),
]


def name(op: ops.Op) -> str:
    return repr(op).replace("Conv(filters=4, kernel=", "Conv(")


@pytest.mark.parametrize(("op", "plain"), PLAIN, ids=[name(op) for op, _ in PLAIN])
def test_an_op_is_what_its_definition_says(op: ops.Op, plain: Plain) -> None:
    x, tensors = draw(op, Normal())
    error = np.abs(apply(op, x, tensors) - plain(x, tensors, op)).max()
    assert error < EXACT * 100


@pytest.mark.parametrize("size", [1, 2, 3, 5, 21])
def test_local_response_is_torchs(size: int) -> None:
    x = Normal().draw(2, 6, 3, 4)
    y = F.local_response_norm(torch.from_numpy(x), size, 0.3, 0.75, k=1.0)
    assert local_response(FLOAT64, x, size, 0.3, 0.75) == pytest.approx(y.numpy(), rel=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 2, 1)])
def test_a_max_pool_is_padded_as_it_says(kernel: int, stride: int, padding: int) -> None:
    x = -1 - np.abs(Normal().draw(2, 3, 7, 9))  # a padding of zeros would win
    y = F.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()
    assert np.array_equal(apply(ops.MaxPool(kernel, stride, padding), x, {}), y)


# ---- in a prime field ------------------------------------------------------------------------

FIELD = PrimeField()


def exactly(op: ops.Op, x: Array, tensors: Tensors) -> Array:
    return apply(op, x, tensors, FIELD)


def test_a_group_norm_of_a_concatenation_is_that_of_its_parts() -> None:
    op = ops.GroupNorm(4)
    x, tensors = draw(op, FIELD, (2, 8, 3, 3))
    halves = [
        exactly(ops.GroupNorm(2), x[:, :, part], {f: t[:, part] for f, t in tensors.items()})
        for part in (slice(0, 4), slice(4, 8))
    ]
    assert np.array_equal(exactly(op, x, tensors), np.concatenate(halves, axis=2))
    assert (exactly(ops.GroupNorm(2), x, tensors) != exactly(op, x, tensors)).any()


def test_a_group_norm_ignores_what_is_added_to_a_group() -> None:
    op = ops.GroupNorm(2)
    x, tensors = draw(op, FIELD)
    assert np.array_equal(exactly(op, FIELD.offset(x, 7), tensors), exactly(op, x, tensors))


def test_a_group_norm_keeps_images_and_groups_apart() -> None:
    op = ops.GroupNorm(2)
    x, tensors = draw(op, FIELD)
    before = exactly(op, x, tensors)
    x[:, 0, 0] = FIELD.draw(6, 6)
    same = (exactly(op, x, tensors) == before).all(axis=(0, 3, 4))
    assert np.array_equal(same, [[False, False, True, True], [True] * 4])


def test_a_local_response_to_all_channels_knows_no_order() -> None:
    op, order = ops.LocalResponse(9, 1e-3, 0.75), [2, 0, 3, 1]
    x, _ = draw(op, FIELD)
    assert np.array_equal(exactly(op, x[:, :, order], {}), exactly(op, x, {})[:, :, order])
    near = ops.LocalResponse(3, 1e-3, 0.75)
    assert (exactly(near, x[:, :, order], {}) != exactly(near, x, {})[:, :, order]).any()


def test_powers_are_functions_of_their_argument_and_exponent() -> None:
    a, b = FIELD.draw(3, 5), FIELD.draw(5)
    quotient = FIELD.divide_by_power(a, b[:, None], 0.75)
    assert np.array_equal(quotient[:, 1:2], FIELD.divide_by_power(a[:, 1:2], b[:, None], 0.75))
    assert np.array_equal(
        FIELD.divide_by_power(FIELD.add(a, a), b[:, None], 0.75), FIELD.add(quotient, quotient)
    )
    for other in (0.5, 0.7500001, 3):
        assert (FIELD.divide_by_power(a, b[:, None], other) != quotient).all()
    root = FIELD.divide_by_root(a, b[:, None])
    assert np.array_equal(root, FIELD.divide_by_power(a, b[:, None], 0.5))
    assert np.array_equal(root, FIELD.multiply(a, FIELD.power(b[:, None], -0.5)))


def test_a_depthwise_convolution_is_one_by_a_diagonal_kernel() -> None:
    op = ops.Conv(4, 3, stride=2, depthwise=True)
    x, tensors = draw(op, FIELD)
    weight = tensors[Field.WEIGHT]
    whole = np.zeros((weight.shape[0], 4, 4, 3, 3), np.int64)
    for c in range(4):
        whole[:, c, c] = weight[:, c, 0]
    assert np.array_equal(exactly(op, x, tensors), convolve(FIELD, x, whole, 2, 1))


def test_gates_and_convolutions_commute() -> None:
    gate, conv = ops.Gate(), ops.Conv(3, 3)
    x, gates = draw(gate, FIELD)
    _, kernels = draw(conv, FIELD)
    inside = exactly(conv, exactly(gate, x, gates), kernels)
    assert np.array_equal(exactly(gate, exactly(conv, x, kernels), gates), inside)
    _, others = draw(gate, FIELD)
    assert (exactly(gate, x, others) != exactly(gate, x, gates)).all()


def test_a_bias_beside_a_kernel_is_one_behind_it() -> None:
    op = ops.Conv(3, 3, bias=True)
    x, tensors = draw(op, FIELD)
    weight, bias = ({field: tensors[field]} for field in (Field.WEIGHT, Field.BIAS))
    behind = exactly(ops.Bias(), exactly(ops.Conv(3, 3), x, weight), bias)
    assert np.array_equal(exactly(op, x, tensors), behind)


def test_a_global_maximum_is_a_max_pool_of_the_whole_map() -> None:
    x = FIELD.draw(2, 4, 6, 6)
    pooled = max_pool(FIELD, x, 6, 6, 0)
    assert np.array_equal(exactly(ops.GlobalMaxPool(), x, {}), pooled[..., 0, 0])


def test_what_is_upsampled_can_be_pooled_back() -> None:
    x = FIELD.draw(2, 4, 3, 5)
    assert np.array_equal(average_pool(FIELD, upsample(x, 3), 3, 3), x)


# ---- degrees ---------------------------------------------------------------------------------


class Line(PrimeField):
    """Every random number, and every result of an opaque function, is one of the line a + t b.

    So all values are polynomials in t. The draws are the same for every t.
    """

    def __init__(self, t: int) -> None:
        super().__init__(seed=1)
        self._t = t
        self.arguments: list[Array] = []

    def draw(self, *shape: int) -> Array:
        """Points of the line."""
        return self.add(super().draw(*shape), self.scale(super().draw(*shape), self._t))

    def inverse(self, a: Array) -> Array:
        """The inverse of a result of an opaque function, itself as random."""
        return self.draw(*a.shape[1:])

    def _opaque(self, a: Array, *key: int) -> Array:
        self.arguments.append(a)
        return self.draw(*a.shape[1:])


def difference(values: list[Array], order: int) -> Array:
    """The difference of an order, which vanishes for polynomials of lower degree."""
    signs = [(-1) ** k * comb(order, k) for k in range(order + 1)]
    primes = np.array(FIELD_OF_LINES.primes).reshape(-1, *(1,) * (values[0].ndim - 1))
    return sum(sign * value for sign, value in zip(signs, values, strict=False)) % primes


FIELD_OF_LINES = PrimeField(seed=1)


@pytest.mark.parametrize("op", [op for op, _ in PLAIN], ids=name)
def test_degrees_are_upper_bounds(op: ops.Op) -> None:
    degrees = Degrees()
    degree = int(apply(op, *draw(op, degrees), degrees)[0].max())
    results, arguments = [], []
    for t in range(max(degree, int(degrees.largest[0])) + 2):
        line = Line(t)
        results.append(apply(op, *draw(op, line), line))
        arguments.append(line.arguments)
    assert not difference(results, degree + 1).any()
    assert difference(results, degree).any() == (not isinstance(op, ops.Zeros))
    for along in zip(*arguments, strict=True):
        assert not difference(list(along), int(degrees.largest[0]) + 1).any()
