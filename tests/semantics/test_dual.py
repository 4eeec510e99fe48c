"""Dual numbers: derivatives against PyTorch's, and the declaration's against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cliquegraph.semantics.arithmetic import Array, group_normalize, local_response, max_pool
from cliquegraph.semantics.dual import Dual
from cliquegraph.semantics.field import PrimeField
from tests.proof.reals import Real

REAL = Real()
DUAL = Dual(REAL)


def drawn(*shape: int) -> Array:
    rng = np.random.default_rng(len(shape) + sum(shape))
    return rng.normal(size=(2, *shape))


FUNCTIONS = {
    "multiply": (lambda a, b: DUAL.multiply(a, b), lambda a, b: a * b),
    "add": (lambda a, b: DUAL.add(a, b), lambda a, b: a + b),
    "subtract": (lambda a, b: DUAL.subtract(a, b), lambda a, b: a - b),
    "scale": (lambda a, b: DUAL.scale(a, 0.25), lambda a, b: a / 4),
    "offset": (lambda a, b: DUAL.offset(a, 0.5), lambda a, b: a + 0.5),
    "divide": (lambda a, b: DUAL.divide(a, 3), lambda a, b: a / 3),
    "root": (
        lambda a, b: DUAL.divide_by_root(a, DUAL.offset(DUAL.multiply(b, b), 1)),
        lambda a, b: a / torch.sqrt(b * b + 1),
    ),
    "power": (
        lambda a, b: DUAL.divide_by_power(a, DUAL.offset(DUAL.multiply(b, b), 1), 0.75),
        lambda a, b: a / (b * b + 1) ** 0.75,
    ),
    "relu": (lambda a, b: DUAL.relu(a), lambda a, b: torch.relu(a)),
    "sigmoid": (lambda a, b: DUAL.sigmoid(a), lambda a, b: torch.sigmoid(a)),
    "matmul": (
        lambda a, b: DUAL.matmul(a, b.swapaxes(-1, -2)),
        lambda a, b: a @ b.transpose(-1, -2),
    ),
    "max_pool": (lambda a, b: max_pool(DUAL, a, 3, 2, 1), lambda a, b: F.max_pool2d(a, 3, 2, 1)),
    "group_norm": (
        lambda a, b: group_normalize(DUAL, a, 2, 1e-5),
        lambda a, b: F.group_norm(a, 2),
    ),
    "local_response": (
        lambda a, b: local_response(DUAL, a, 3, 0.1, 0.75),
        lambda a, b: F.local_response_norm(a, 3, 0.1, 0.75),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_automatic_differentiation(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    a, b = drawn(3, 4, 5, 6), drawn(3, 4, 5, 6)[::-1].copy()
    value, derivative = ours(a, b)
    (x, dx), (y, dy) = (map(torch.from_numpy, each) for each in (a, b))
    expected, along = torch.autograd.functional.jvp(theirs, (x, y), (dx, dy))
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(derivative, along, rtol=1e-10, atol=1e-12)


def test_in_a_field_a_product_has_the_derivative_of_both_factors() -> None:
    field = PrimeField(3)
    pair = [np.stack((field.draw(5), field.draw(5))) for _ in range(2)]
    value, slope = Dual(field).multiply(*pair)
    assert np.array_equal(value, field.multiply(pair[0][0], pair[1][0]))
    both = field.add(field.multiply(pair[0][0], pair[1][1]), field.multiply(pair[0][1], pair[1][0]))
    assert np.array_equal(slope, both)


def test_masks_and_constants_have_no_derivative() -> None:
    field = PrimeField(4)
    assert not Dual(field).mask(7, 2, 3)[1].any()
    assert not Dual(field).constant(field.draw(4))[1].any()
