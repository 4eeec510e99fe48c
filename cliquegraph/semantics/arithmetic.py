"""The arithmetic in which networks are evaluated, an argument of every evaluator.

Maps are (batch, channels, height, width), vectors (batch, channels), kernels (out, in, height,
width). An arithmetic may have ``lead`` leading axes, the lanes of a prime field, so evaluators
count axes from the end.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import floor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cliquegraph.diagnostics.errors import VerificationError

Array = NDArray[Any]
Number = int | float | Fraction


class Arithmetic(Protocol):
    """The operations on arrays that networks consist of.

    Attributes:
        lead: how many leading axes every array has before its own.
    """

    @property
    def lead(self) -> int:
        """The number of leading axes."""

    def array(self, values: Array) -> Array:
        """Convert values to this arithmetic's representation."""

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b."""

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b, element by element."""

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b."""

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power."""

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes, which are counted from the end."""

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product over the last two axes."""

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""

    def sigmoid(self, a: Array) -> Array:
        """1 / (1 + exp(-a))."""

    def maximum(self, windows: Array, present: Array) -> Array:
        """The maximum of each window, the last two axes, over the elements that are ``present``."""


class Float64:
    """NumPy's float64, the reference for every backend."""

    lead = 0

    def __repr__(self) -> str:
        return "FLOAT64"

    def array(self, values: Array) -> Array:
        """Return values in float64, as a copy."""
        return np.array(values, np.float64)

    def add(self, a: Array, b: Array) -> Array:
        """a + b."""
        return np.asarray(a + b)

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b."""
        return np.asarray(a - b)

    def multiply(self, a: Array, b: Array) -> Array:
        """a × b."""
        return np.asarray(a * b)

    def offset(self, a: Array, number: Number) -> Array:
        """a + a constant."""
        return np.asarray(a + float(number))

    def scale(self, a: Array, number: Number) -> Array:
        """a × a constant."""
        return np.asarray(a * float(number))

    def divide(self, a: Array, count: int) -> Array:
        """a / a count."""
        return np.asarray(a / count)

    def divide_by_root(self, a: Array, b: Array) -> Array:
        """a / √b."""
        return np.asarray(a / np.sqrt(b))

    def divide_by_power(self, a: Array, b: Array, exponent: Number) -> Array:
        """a / b to a constant power."""
        return np.asarray(a / b ** float(exponent))

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sum over axes."""
        return np.asarray(a.sum(axis=axes))

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product."""
        return np.asarray(a @ b)

    def relu(self, a: Array) -> Array:
        """max(a, 0)."""
        return np.maximum(a, 0.0)

    def sigmoid(self, a: Array) -> Array:
        """1 / (1 + exp(-a))."""
        # exp of a negative number only, so that no large input overflows
        small = np.exp(-np.abs(a))
        return np.asarray(np.where(a >= 0, 1.0, small) / (1.0 + small))

    def maximum(self, windows: Array, present: Array) -> Array:
        """The maximum of each window."""
        return np.asarray(np.where(present, windows, -np.inf).max(axis=(-2, -1)))


FLOAT64 = Float64()


# ---- constants -------------------------------------------------------------------------------


@cache
def rational(number: Number) -> Fraction:
    """Return the rational number that a constant means: the simplest that rounds to the float.

    >>> rational(0.1), rational(1e-5), rational(1.0 - 0.1)
    (Fraction(1, 10), Fraction(1, 100000), Fraction(9, 10))
    """
    if not isinstance(number, float):
        return Fraction(number)
    size = abs(number)
    if size.is_integer():
        return Fraction(number)
    # Halfway to the neighbors; a tie may round either way, so the ends are excluded.
    below, above = (
        (Fraction(size) + Fraction(float(np.nextafter(size, end)))) / 2 for end in (0.0, np.inf)
    )
    return _simplest(below, above) * (1 if number > 0 else -1)


def survival(rate: Number) -> Fraction:
    """Return the probability with which something is not dropped, as models compute it: 1 - rate.

    Of a float this is a difference of floats, which rounds: of 1/27, for example, not to 26/27.
    """
    return rational(1 - rate)


def _simplest(below: Fraction, above: Fraction | None) -> Fraction:
    """The fraction with the smallest denominator in an open interval; ``above`` None: infinity."""
    whole = floor(below)
    if above is None or whole + 1 < above:
        return Fraction(whole + 1)
    rest = 1 / (below - whole) if below > whole else None
    return whole + 1 / _simplest(1 / (above - whole), rest)


# ---- shared by evaluators -------------------------------------------------------------------


def per_channel(vector: Array) -> Array:
    """Return a vector of channels in the shape that broadcasts with maps."""
    return vector[..., None, :, None, None]


def mean(arithmetic: Arithmetic, a: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over axes, which are counted from the end."""
    count = int(np.prod([a.shape[axis] for axis in axes]))
    return arithmetic.divide(arithmetic.total(a, axes), count)


def move(arithmetic: Arithmetic, running: Array, observed: Array, momentum: Number) -> Array:
    """Return a running statistic, moved toward the statistic of a batch."""
    old_share = arithmetic.scale(running, 1 - rational(momentum))
    return arithmetic.add(old_share, arithmetic.scale(observed, momentum))


def convolve(arithmetic: Arithmetic, x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Return the convolution of zero-padded maps."""
    filters, size = kernel.shape[-4], kernel.shape[-1]
    windows = _windows(x, size, stride, padding)
    lead, (batch, _, height, width) = x.shape[:-4], windows.shape[-6:-2]
    # A row for each window, its elements in the same order as those of kernels.
    rows = np.moveaxis(windows, -5, -3).reshape(*lead, batch * height * width, -1)
    columns = kernel.reshape(*kernel.shape[:-4], filters, -1).swapaxes(-1, -2)
    maps = arithmetic.matmul(rows, columns).reshape(*lead, batch, height, width, filters)
    return np.moveaxis(maps, -1, -3)


def convolve_depthwise(
    arithmetic: Arithmetic, x: Array, kernel: Array, stride: int, padding: int
) -> Array:
    """Return the convolution of zero-padded maps, each with its own kernel."""
    lead, (channels, _, size, _) = kernel.shape[:-4], kernel.shape[-4:]
    taps = kernel.reshape(*lead, 1, channels, 1, 1, size, size)
    products = arithmetic.multiply(_windows(x, size, stride, padding), taps)
    return arithmetic.total(products, (-2, -1))


def average_pool(arithmetic: Arithmetic, x: Array, kernel: int, stride: int) -> Array:
    """Return the mean of each window."""
    return mean(arithmetic, _windows(x, kernel, stride, 0), (-2, -1))


def max_pool(arithmetic: Arithmetic, x: Array, kernel: int, stride: int, padding: int) -> Array:
    """Return the maximum of each window, without the padding."""
    inside = np.ones(x.shape[-2:], bool)
    present = _windows(inside, kernel, stride, padding)
    return arithmetic.maximum(_windows(x, kernel, stride, padding), present)


def global_max(arithmetic: Arithmetic, x: Array) -> Array:
    """Return the maximum of each map."""
    return arithmetic.maximum(x, np.ones(x.shape[-2:], bool))


def upsample(x: Array, factor: int) -> Array:
    """Return maps in which each pixel is repeated along both axes."""
    return x.repeat(factor, axis=-2).repeat(factor, axis=-1)


def group_normalize(arithmetic: Arithmetic, x: Array, groups: int, eps: Number) -> Array:
    """Return (x - mean) / √(variance + ε), by the moments of each image and group of channels."""
    if x.shape[-3] % groups:  # the graph is not the declared network
        raise VerificationError(f"{x.shape[-3]} channels can't be divided into {groups} groups")
    of_groups = x.reshape(*x.shape[:-3], groups, -1, *x.shape[-2:])

    def moment(a: Array) -> Array:
        return mean(arithmetic, a, (-3, -2, -1))[..., None, None, None]

    centered = arithmetic.subtract(of_groups, moment(of_groups))
    var = moment(arithmetic.multiply(centered, centered))
    normalized = arithmetic.divide_by_root(centered, arithmetic.offset(var, eps))
    return normalized.reshape(x.shape)


def local_response(
    arithmetic: Arithmetic, x: Array, size: int, alpha: Number, beta: Number
) -> Array:
    """Return x / (1 + α / size × Σ x²)^β, the sum over ``size`` channels around each.

    An even window has one channel more before than behind, as in PyTorch.
    """
    border = [(0, 0)] * x.ndim
    border[-3] = (size // 2, (size - 1) // 2)
    squares = np.pad(arithmetic.multiply(x, x), border)
    windows = np.lib.stride_tricks.sliding_window_view(squares, size, axis=-3)
    share = arithmetic.scale(arithmetic.total(windows, (-1,)), rational(alpha) / size)
    return arithmetic.divide_by_power(x, arithmetic.offset(share, 1), beta)


def _windows(x: Array, kernel: int, stride: int, padding: int) -> Array:
    """The windows of zero-padded maps, along two trailing axes: height and width."""
    border = ((0, 0),) * (x.ndim - 2) + ((padding, padding),) * 2
    if kernel == 1 and not padding:  # each pixel is a window
        return x[..., ::stride, ::stride, None, None]
    padded = np.pad(x, border) if padding else x
    if min(padded.shape[-2:]) < kernel:  # the graph is not the declared network
        raise VerificationError(f"maps of {x.shape[-2:]} are smaller than a window of {kernel}")
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(-2, -1))
    return view[..., ::stride, ::stride, :, :]
