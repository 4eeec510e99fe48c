"""Rules of ATen's poolings and upsampling, and of their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import torch

from cliquegraph.semantics.arithmetic import Array, upsample
from cliquegraph.semantics.field import Exact
from cliquegraph.semantics.windows import (
    Padding,
    Pair,
    scatter,
    windows_of,
)
from cliquegraph_torch.aten_rules import aligned, axis, both, pair, require, rule

_ATEN = torch.ops.aten
_PLANE = (-2, -1)

# ---- pooling ---------------------------------------------------------------------------------


@rule(_ATEN.avg_pool2d.default)
def average_pool(
    exact: Exact,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Array:
    """The mean of each window."""
    size, steps, frame = _pool(kernel, stride, padding, ceil_mode)
    windows, present = windows_of(x, size, steps, frame)
    sums = exact.total(windows, _PLANE)
    if divisor or count_include_pad or not any(padding):
        return exact.divide(sums, divisor or prod(size))
    return exact.multiply(*aligned(exact, sums, _counted(exact, present)))


@rule(_ATEN.avg_pool2d_backward.default)
def average_pool_backward(
    exact: Exact,
    grad: Array,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Array:
    """The gradient of the mean of each window."""
    size, steps, frame = _pool(kernel, stride, padding, ceil_mode)
    if divisor or count_include_pad or not any(padding):
        share = exact.divide(grad, divisor or prod(size))
    else:
        _, present = windows_of(x, size, steps, frame)
        share = exact.multiply(*aligned(exact, grad, _counted(exact, present)))
    each = np.broadcast_to(share[..., None, None], (*share.shape, *size))
    return scatter(exact, each, pair(x.shape[-2:]), steps, frame)


def _counted(exact: Exact, present: Array) -> Array:
    """1 / the elements of each window."""
    return exact.constant(1 / present.sum(_PLANE))


@rule(_ATEN.avg_pool3d.default)
def average_channels(
    exact: Exact,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Array:
    """The mean of neighbors along the first of three dimensions, of local response."""
    count = _channels(kernel, stride, padding, ceil_mode)
    windows = np.lib.stride_tricks.sliding_window_view(x, count, axis=-3)
    return exact.divide(exact.total(windows, (-1,)), divisor or count)


@rule(_ATEN.avg_pool3d_backward.default)
def average_channels_backward(
    exact: Exact,
    grad: Array,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Array:
    """The gradient of that mean."""
    count = _channels(kernel, stride, padding, ceil_mode)
    share = exact.divide(grad, divisor or count)
    whole = np.zeros(x.shape, share.dtype)
    for tap in range(count):
        part = whole[..., tap : tap + share.shape[-3], :, :]
        part[...] = exact.add(part, share)
    return whole


@rule(_ATEN.max_pool2d_with_indices.default)
def max_pool(
    exact: Exact,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """The maximum of each window, without the padding.

    In place of its index, the derivative with respect to each element of the window.
    """
    size, steps, frame = _pool(kernel, stride, padding, ceil_mode)
    windows, present = windows_of(x, size, steps, frame, pair(dilation))
    return exact.maximum(windows, present), exact.shares(windows, present)


@rule(_ATEN.max_pool2d_with_indices_backward.default)
def max_pool_backward(
    exact: Exact,
    grad: Array,
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    shares: Array,
) -> Array:
    """The gradient of the maximum of each window."""
    _, steps, frame = _pool(kernel, stride, padding, ceil_mode)
    each = exact.multiply(grad[..., None, None], shares)
    return scatter(exact, each, pair(x.shape[-2:]), steps, frame, pair(dilation))


@rule(_ATEN._adaptive_avg_pool2d.default)
def adaptive_average(exact: Exact, x: Array, size: Sequence[int]) -> Array:
    """The mean of as many windows as wanted, which may overlap."""
    result = np.empty((*x.shape[:-2], *size), x.dtype)
    for place, (rows, columns) in _cells(pair(x.shape[-2:]), pair(size)):
        cell = x[..., rows, columns]
        sums = exact.total(cell, _PLANE)
        result[(..., *place)] = exact.divide(sums, prod(cell.shape[-2:]))
    return result


@rule(_ATEN._adaptive_avg_pool2d_backward.default)
def adaptive_average_backward(exact: Exact, grad: Array, x: Array) -> Array:
    """The gradient of that mean."""
    result = np.zeros(x.shape, grad.dtype)
    for place, (rows, columns) in _cells(pair(x.shape[-2:]), pair(grad.shape[-2:])):
        cell = result[..., rows, columns]
        share = exact.divide(grad[(..., *place)], prod(cell.shape[-2:]))
        cell[...] = exact.add(cell, share[..., None, None])
    return result


@rule(_ATEN.adaptive_max_pool2d.default)
def adaptive_max(exact: Exact, x: Array, size: Sequence[int]) -> tuple[Array, Array]:
    """The maximum of as many windows as wanted, which must not overlap; and its derivatives."""
    kernel = _divided(x, size)
    windows, present = windows_of(x, kernel, kernel)
    return exact.maximum(windows, present), exact.shares(windows, present)


@rule(_ATEN.adaptive_max_pool2d_backward.default)
def adaptive_max_backward(exact: Exact, grad: Array, x: Array, shares: Array) -> Array:
    """The gradient of that maximum."""
    each = exact.multiply(grad[..., None, None], shares)
    return scatter(exact, each, pair(x.shape[-2:]), pair(shares.shape[-2:]))


@rule(_ATEN.amax.default)
def largest(exact: Exact, x: Array, dims: Sequence[int] = (), keepdim: bool = False) -> Array:
    """The maximum of each map."""
    over = sorted(axis(exact, x, dim) for dim in dims)
    require(over == [-2, -1], "over other dimensions than height and width")
    maxima = exact.maximum(x, np.ones(x.shape[-2:], bool))
    return np.expand_dims(maxima, _PLANE) if keepdim else maxima


# ---- upsampling ------------------------------------------------------------------------------


@rule(_ATEN.upsample_nearest2d.default)
def nearest(
    exact: Exact,
    x: Array,
    size: Sequence[int],
    scale_height: float | None = None,
    scale_width: float | None = None,
) -> Array:
    """Maps in which each pixel is repeated."""
    return upsample(x, _factor(x.shape[-2:], size))


@rule(_ATEN.upsample_nearest2d_backward.default)
def nearest_backward(
    exact: Exact,
    grad: Array,
    size: Sequence[int],
    input_size: Sequence[int],
    scale_height: float | None = None,
    scale_width: float | None = None,
) -> Array:
    """The gradient of each pixel: the sum over its copies."""
    factor = _factor(input_size[-2:], size)
    height, width = input_size[-2:]
    copies = grad.reshape(*grad.shape[:-2], height, factor, width, factor)
    return exact.total(copies, (-3, -1))


def _factor(size: Sequence[int], larger: Sequence[int]) -> int:
    factor = larger[0] // size[0]
    whole = [side * factor for side in size] == list(larger)
    require(whole, f"of {tuple(larger)} pixels for {tuple(size)}")
    return factor


# ---- arguments -------------------------------------------------------------------------------


def _pool(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil_mode: bool
) -> tuple[Pair, Pair, Padding]:
    """The windows of a pooling, whose stride is their size by default."""
    require(not ceil_mode, "with ceil_mode")
    return pair(kernel), pair(stride or kernel), both(padding)


def _channels(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil_mode: bool
) -> int:
    """The neighbors over which a pooling in three dimensions takes the mean, along the first."""
    count, *others = kernel
    plain = not any(padding) and not ceil_mode and set(stride or kernel) == {1}
    require(plain and set(others) == {1}, "but along one of three dimensions, in every place")
    return count


def _divided(x: Array, size: Sequence[int]) -> Pair:
    """Kernel and strides of adjacent windows, of which there are as many as requested."""
    (height, width), (rows, columns) = x.shape[-2:], pair(size)
    whole = height % rows == 0 and width % columns == 0
    require(whole, f"of {rows} × {columns} windows of {height} × {width} pixels")
    return height // rows, width // columns


def _cells(size: Pair, count: Pair) -> Iterator[tuple[Pair, tuple[slice, slice]]]:
    """The windows of an adaptive pooling, as PyTorch lays them out."""
    for place in np.ndindex(count):
        rows, columns = (
            slice(at * pixels // cells, -((-(at + 1) * pixels) // cells))
            for at, pixels, cells in zip(place, size, count, strict=True)
        )
        yield (place[0], place[1]), (rows, columns)
