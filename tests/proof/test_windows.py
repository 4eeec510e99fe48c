"""Windows of maps in exact arithmetic, against sums of Python's integers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics import windows
from cliquegraph.semantics.arithmetic import FLOAT64, Array
from cliquegraph.semantics.field import PrimeField
from cliquegraph.semantics.windows import correlate, scatter, windows_of

SETTINGS = list(
    product(
        [(1, 1), (2, 1)],
        [((0, 0), (0, 0)), ((1, 2), (0, 1)), ((-1, 1), (2, -1))],
        [(1, 1), (1, 2)],
        [(1, 1), (1, 2)],
        [1, 2, 4],
    )
)


def placed(x: Array, padding: windows.Padding, spread: windows.Pair) -> dict[tuple[int, int], int]:
    """The elements of a map by their place in the padded one."""
    (above, _), (left, _) = padding
    return {
        (row * spread[0] + above, column * spread[1] + left): int(x[row, column])
        for row, column in np.ndindex(x.shape)
    }


@pytest.mark.parametrize(("strides", "padding", "spread", "dilation", "groups"), SETTINGS)
def test_a_correlation_is_the_sum_of_products_of_integers(
    strides: windows.Pair,
    padding: windows.Padding,
    spread: windows.Pair,
    dilation: windows.Pair,
    groups: int,
) -> None:
    field = PrimeField(1, 3)
    x, kernel = field.draw(2, 4, 5, 6), field.draw(4, 4 // groups, 2, 3)
    options = {"strides": strides, "padding": padding, "spread": spread, "dilation": dilation}
    result = correlate(field, x, kernel, groups=groups, **options)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    for _ in range(20):
        lane, image, filter_, row, column = (random.integers(size) for size in result.shape)
        members = 4 // groups
        first = filter_ // (4 // groups) * members
        total = 0
        for channel, down, right in np.ndindex(members, 2, 3):
            place = (
                row * strides[0] + down * dilation[0],
                column * strides[1] + right * dilation[1],
            )
            pixels = placed(x[lane, image, first + channel], padding, spread)
            total += pixels.get(place, 0) * int(kernel[lane, filter_, channel, down, right])
        assert result[lane, image, filter_, row, column] == total % field.primes[lane]


@pytest.mark.parametrize(("strides", "padding", "spread", "dilation", "groups"), SETTINGS[::3])
def test_scattering_is_the_transpose_of_taking_windows(
    strides: windows.Pair,
    padding: windows.Padding,
    spread: windows.Pair,
    dilation: windows.Pair,
    groups: int,
) -> None:
    field = PrimeField(2, 2)
    x = field.draw(groups, 6, 7)
    taken, present = windows_of(x, (2, 3), strides, padding, dilation)
    values = field.draw(*taken.shape[1:])
    back = scatter(field, values, (6, 7), strides, padding, dilation)
    every = tuple(range(-(taken.ndim - 1), 0))
    left = field.total(field.multiply(taken, values), every)
    assert (left == field.total(field.multiply(x, back), (-3, -2, -1))).all()
    assert not (taken * ~present).any()


def test_many_windows_and_terms_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    x, kernel = random.normal(size=(2, 6, 9, 8)), random.normal(size=(4, 3, 3, 2))
    whole = correlate(FLOAT64, x, kernel, groups=2)
    monkeypatch.setattr(windows, "_MOST_ELEMENTS", 1)
    monkeypatch.setattr(windows, "_MOST_TERMS", 5)
    np.testing.assert_allclose(correlate(FLOAT64, x, kernel, groups=2), whole, 1e-12, 1e-12)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(VerificationError, match="don't fit"):
        correlate(FLOAT64, np.ones((1, 3, 4, 4)), np.ones((2, 2, 1, 1)))
    with pytest.raises(VerificationError, match="smaller than a window"):
        windows_of(np.ones((2, 2)), (3, 3))
