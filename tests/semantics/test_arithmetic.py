"""Exact arithmetic against Python's integers and fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import (
    FLOAT64,
    Array,
    average_pool,
    convolve,
    max_pool,
    mean,
    rational,
)
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import LANES, Opaque, PrimeField, collision

FIELD = PrimeField()
LARGEST = np.array(FIELD.primes)[:, None] - 1


def residues(fractions: Any) -> Array:
    """Exact numbers as residues, by Python's integers."""
    numbers = np.asarray(fractions, object)
    lanes = [
        [Fraction(n).numerator * pow(Fraction(n).denominator, -1, p) % p for n in numbers.ravel()]
        for p in FIELD.primes
    ]
    return np.array(lanes, np.int64).reshape(len(FIELD.primes), *numbers.shape)


def integers(*shape: int, seed: int = 0) -> Any:
    """Small integers, as Python has them."""
    drawn = np.random.default_rng(seed).integers(-9, 10, shape)
    return drawn.astype(object)


# ---- constants -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "exact"),
    [
        (0.1, Fraction(1, 10)),
        (1e-5, Fraction(1, 100_000)),
        (1.00001e-5, Fraction(100_001, 10_000_000_000)),
        (-0.8, Fraction(-4, 5)),
        (1 / 192, Fraction(1, 192)),
        (192 / 191, Fraction(192, 191)),
        (0.5, Fraction(1, 2)),
        (0.0, Fraction(0)),
        (3.0, Fraction(3)),
        (2.0**-40, Fraction(1, 2**40)),
        (1 + 2.0**-52, None),
        (7, Fraction(7)),
        (Fraction(2, 3), Fraction(2, 3)),
    ],
)
def test_a_constant_is_the_simplest_rational_that_rounds_to_it(
    number: Any, exact: Fraction | None
) -> None:
    assert float(rational(number)) == float(number)
    if exact is not None:
        assert rational(number) == exact


@given(st.fractions(-100, 100, max_denominator=10**5))
def test_every_fraction_of_a_small_denominator_is_recovered(number: Fraction) -> None:
    assert rational(float(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300, max_value=1e300))
def test_a_constant_rounds_back(number: float) -> None:
    assert float(rational(number)) == number


# ---- the field -------------------------------------------------------------------------------


def test_primes_are_random_distinct_and_of_31_bits() -> None:
    assert len(set(FIELD.primes)) == LANES
    for prime in FIELD.primes:
        assert 2**30 < prime < 2**31
        assert all(prime % divisor for divisor in range(2, 46_341))
    assert PrimeField(0).primes == FIELD.primes != PrimeField(1).primes


def test_arithmetic_is_that_of_integers() -> None:
    a, b = integers(3, 4), integers(3, 4, seed=1)
    x, y = residues(a), residues(b)
    assert np.array_equal(FIELD.add(x, y), residues(a + b))
    assert np.array_equal(FIELD.subtract(x, y), residues(a - b))
    assert np.array_equal(FIELD.multiply(x, y), residues(a * b))
    assert np.array_equal(FIELD.offset(x, 0.1), residues(a + Fraction(1, 10)))
    assert np.array_equal(FIELD.scale(x, -1e-5), residues(a * Fraction(-1, 100_000)))
    assert np.array_equal(FIELD.divide(x, 7), residues(a * Fraction(1, 7)))
    assert np.array_equal(FIELD.total(x, (-2,)), residues(a.sum(axis=0)))
    assert np.array_equal(mean(FIELD, x, (-2, -1)), residues(a.sum() * Fraction(1, 12)))


@pytest.mark.parametrize("columns", [1, 4, 5, 40])
def test_products_of_matrices_are_exact(columns: int) -> None:
    a, b = integers(6, 300), integers(300, columns, seed=1)
    assert np.array_equal(FIELD.matmul(residues(a), residues(b)), residues(a @ b))


@pytest.mark.parametrize("columns", [4, 5])
def test_products_of_the_largest_numbers_do_not_overflow(columns: int) -> None:
    terms = 2**16 - 1
    a = np.broadcast_to(LARGEST[..., None], (LANES, 1, terms))  # -1 in each field
    b = np.broadcast_to(LARGEST[..., None], (LANES, terms, columns))
    assert np.array_equal(FIELD.matmul(a, b), residues(np.full((1, columns), terms, object)))
    with pytest.raises(ValueError, match="a sum of 65536 products is not exact"):
        FIELD.matmul(np.zeros((LANES, 1, terms + 1), int), np.zeros((LANES, terms + 1, 1), int))


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 3)])
def test_convolutions_are_exact(size: int, stride: int) -> None:
    """In float64 too, as long as integers are small."""
    x, kernel = integers(2, 3, 7, 8), integers(4, 3, size, size, seed=1)
    padding = (size - 1) // 2
    floats = convolve(FLOAT64, x.astype(float), kernel.astype(float), stride, padding)
    exact = convolve(FIELD, residues(x), residues(kernel), stride, padding)
    assert np.array_equal(exact, residues(floats.astype(int)))


def test_average_pools_are_exact() -> None:
    x = integers(2, 3, 6, 8)
    windows = x.reshape(2, 3, 3, 2, 4, 2).sum(axis=(3, 5)) * Fraction(1, 4)
    assert np.array_equal(average_pool(FIELD, residues(x), 2, 2), residues(windows))


# ---- opaque functions ------------------------------------------------------------------------


def test_an_opaque_function_is_a_function_of_all_residues() -> None:
    x = FIELD.draw(5, 6)
    answers = FIELD.relu(x)
    assert np.array_equal(FIELD.relu(x[:, ::-1]), answers[:, ::-1])
    assert (answers < np.array(FIELD.primes)[:, None, None]).all()
    for lane in range(LANES):
        other = x.copy()
        other[lane] += 1
        assert (FIELD.relu(other) != answers).any(axis=0).all()


def test_opaque_functions_and_seeds_differ() -> None:
    x = FIELD.draw(100)
    answers = [FIELD.relu(x), FIELD.sigmoid(x), FIELD.divide_by_root(np.ones_like(x), x)]
    answers += [PrimeField(1).relu(x), FIELD.mask(0, 100), FIELD.mask(1, 100)]
    for number, one in enumerate(answers):
        for other in answers[:number]:
            assert (one != other).all()
    assert np.array_equal(FIELD.mask(1, 100), FIELD.mask(1, 100))


def test_answers_are_spread_evenly() -> None:
    answers = FIELD.relu(FIELD.residues(1)[:, None] * np.arange(20_000))
    for lane, prime in zip(answers, FIELD.primes, strict=True):
        assert len(set(lane.tolist())) > 19_990
        assert abs(lane.mean() / prime - 0.5) < 0.01
        assert abs((lane & 1).mean() - 0.5) < 0.02
    assert abs(np.corrcoef(answers)[0, 1]) < 0.03


def test_queries_are_counted() -> None:
    field = PrimeField()
    field.relu(field.draw(3, 4))
    field.add(field.draw(3), field.draw(3))
    assert field.queries == 12


def test_a_maximum_knows_no_order_and_no_padding() -> None:
    x = FIELD.draw(1, 1, 3, 3)
    whole = max_pool(FIELD, x, 3, 3, 0)
    assert np.array_equal(max_pool(FIELD, x[..., ::-1, :], 3, 3, 0), whole)
    assert np.array_equal(max_pool(FIELD, x.swapaxes(-1, -2), 3, 3, 0), whole)
    padded = max_pool(FIELD, x, 3, 2, 1)
    corner = FIELD.maximum(x[..., :2, :2][..., None, None, :, :], np.ones((2, 2), bool))
    assert np.array_equal(padded[..., 0, 0], corner[..., 0, 0])
    x[:, 0, 0, 0, 0] += 1
    assert (max_pool(FIELD, x, 3, 3, 0) != whole).all()


def test_every_opaque_function_has_a_key_of_its_own() -> None:
    assert len({each.value for each in Opaque}) == len(Opaque)


# ---- the bound -------------------------------------------------------------------------------


def test_degrees_are_those_of_polynomials() -> None:
    degrees = Degrees()
    x, w = degrees.draw(2, 3), degrees.draw(3, 4)
    product = degrees.matmul(x, w)
    assert (product[0] == 2).all()
    assert (degrees.add(product, degrees.multiply(product, product))[0] == 4).all()
    assert (degrees.relu(degrees.multiply(product, product))[0] == 1).all()
    assert degrees.largest[0] == 4
    assert (degrees.divide_by_root(product, degrees.offset(product, 1e-5))[0] == 3).all()
    assert (degrees.total(degrees.scale(product, 2), (-1,))[0] == 2).all()


def test_bits_are_those_of_coefficients_over_one_denominator() -> None:
    degrees = Degrees([Fraction(3, 10), Fraction(1, 4)])
    x = degrees.draw(3)
    (thirds,) = set(degrees.scale(x, 0.3)[1].tolist())
    assert thirds >= np.log2(3 * 20 * 20)  # over 20, and once more for other terms of a sum
    (whole,) = set(degrees.total(degrees.scale(x, 0.3), (-1,)).tolist()[1:])
    assert whole == thirds + 2
    assert (degrees.relu(degrees.scale(x, 0.3))[1] == 0).all()


def test_a_quotient_of_polynomials_has_no_degree() -> None:
    degrees = Degrees()
    x = degrees.draw(2)
    assert (degrees.multiply(x, degrees.inverse(degrees.root(x)))[0] == 2).all()
    for wrong in (
        lambda: degrees.inverse(x),
        lambda: degrees.add(degrees.root(x), x),
        lambda: degrees.total(degrees.power(x, 0.75), (-1,)),
    ):
        with pytest.raises(VerificationError, match="degree of that is unknown"):
            wrong()


def test_the_bound_falls_with_primes_and_grows_with_questions() -> None:
    assert collision(10**6, (6, 0), lanes=3) == pytest.approx(5e11 * (6 / 2**30) ** 3)
    assert collision(10**6, (6, 0), lanes=4) < 1e-19
    assert collision(10**6, (6, 0), (600, 0), lanes=3) > (600 / 2**30) ** 3
    assert collision(10**18, (6, 0), lanes=3) == 1.0


def test_the_bound_counts_primes_that_divide_all_coefficients() -> None:
    bits = 299  # at most ten factors of 30 bits
    assert collision(0, (0, bits), lanes=1) == pytest.approx(10 / 50_697_537)
    assert collision(10**6, (6, bits)) > 100 * collision(10**6, (6, 0))
