"""Windows of maps with any strides, padding and dilation, as programs of frameworks have them.

Maps are (…, height, width), with the batch, the channels and the arithmetic's lanes in front.
Padding is ((above, below), (left, right)), by zeros; negative padding crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Arithmetic, Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

NO_PADDING: Padding = ((0, 0), (0, 0))

_MOST_TERMS = 2**15  # of a sum of products; fewer than ``PrimeField.matmul`` permits
_MOST_ELEMENTS = 2**21  # of the windows that are copied at once: 16 MiB


def correlate(
    arithmetic: Arithmetic,
    x: Array,
    kernel: Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    spread: Pair = (1, 1),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Return the sums of products of kernels and the windows of maps: a convolution.

    Args:
        arithmetic: computes the sums.
        x: maps, (batch, channels, height, width).
        kernel: (filters, channels / groups, height, width).
        strides: between windows.
        padding: of the maps, after they are spread.
        spread: the distance of neighboring pixels; those between them are 0.
        dilation: the distance of neighboring elements of a window.
        groups: of channels and of filters; filters see the channels of their own group.

    Returns:
        (batch, filters, height, width).

    Raises:
        VerificationError: the maps are smaller than a window, or not of the kernel's channels.
    """
    lead, batch = x.shape[:-4], x.shape[-4]
    filters, members, *taps = kernel.shape[-4:]
    if x.shape[-3] != members * groups or filters % groups:
        raise VerificationError(
            f"{x.shape[-3]} channels don't fit {filters} filters of {members} in {groups} groups"
        )
    windows = _sliding(_placed(x, padding, spread), (taps[0], taps[1]), strides, dilation)
    height, width = windows.shape[-4:-2]
    if members == 1 and filters == groups:  # of depthwise kernels there is nothing to sum but taps
        return _correlate_each(arithmetic, windows, kernel[..., 0, :, :])
    columns = kernel.reshape(*kernel.shape[:-4], groups, filters // groups, -1).swapaxes(-1, -2)
    of_groups = windows.reshape(*lead, batch, groups, members, height, width, *taps)
    maps = np.empty((*lead, batch, filters, height, width), np.result_type(x, kernel))
    # Windows overlap, so that rows of all of them would be large: a few rows of maps at a time.
    each = prod(lead) * batch * groups * members * width * prod(taps)
    some = max(1, _MOST_ELEMENTS // max(each, 1))
    for start in range(0, height, some):
        part = of_groups[..., start : start + some, :, :, :]
        # (batch, groups, members, rows, width, *taps) -> (groups, windows, elements)
        part = np.moveaxis(part, (-7, -5), (-6, -3))
        count = part.shape[-5]
        rows = part.reshape(*lead, groups, batch * count * width, -1)
        sums = product(arithmetic, rows, columns)
        sums = sums.reshape(*lead, groups, batch, count, width, filters // groups)
        sums = np.moveaxis(sums, (-5, -1), (-4, -3))
        maps[..., start : start + some, :] = sums.reshape(*lead, batch, filters, count, width)
    return maps


def product(arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    """Return the matrix product over the last two axes, of sums of any number of terms."""
    terms = a.shape[-1]
    result = arithmetic.matmul(a[..., :_MOST_TERMS], b[..., :_MOST_TERMS, :])
    for start in range(_MOST_TERMS, terms, _MOST_TERMS):
        end = start + _MOST_TERMS
        part = arithmetic.matmul(a[..., start:end], b[..., start:end, :])
        result = arithmetic.add(result, part)
    return result


def windows_of(
    x: Array,
    kernel: Pair,
    strides: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    dilation: Pair = (1, 1),
) -> tuple[Array, Array]:
    """Return the windows of maps, and which of their elements are not padding.

    Returns:
        (…, rows, columns, *kernel), a view of padded maps that must not be written, and booleans
        (rows, columns, *kernel).

    Raises:
        VerificationError: the maps are smaller than a window.
    """
    inside = _placed(np.ones(x.shape[-2:], bool), padding)
    view = _sliding(_placed(x, padding), kernel, strides, dilation)
    return view, _sliding(inside, kernel, strides, dilation)


def scatter(
    arithmetic: Arithmetic,
    values: Array,
    shape: Pair,
    strides: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    dilation: Pair = (1, 1),
) -> Array:
    """Return maps to which each window's elements are added at the places it has in ``windows_of``.

    Args:
        arithmetic: computes the sums.
        values: (…, rows, columns, *kernel).
        shape: height and width of the maps, without padding.
        strides: between windows.
        padding: elements in it are dropped.
        dilation: the distance of neighboring elements of a window.

    Returns:
        maps, (…, height, width).
    """
    rows, columns, *kernel = values.shape[-4:]
    height, width = (size + sum(ends) for size, ends in zip(shape, padding, strict=True))
    padded = np.zeros((*values.shape[:-4], height, width), values.dtype)
    apart = all(stride >= size for stride, size in zip(strides, kernel, strict=True))
    for tap, place in _taps((kernel[0], kernel[1]), (rows, columns), strides, dilation):
        element = values[(..., *tap)]
        alone = apart and dilation == (1, 1)  # no two windows overlap
        padded[..., place[0], place[1]] = (
            element if alone else arithmetic.add(padded[..., place[0], place[1]], element)
        )
    # To crop what was padded is to pad by its negative.
    (above, below), (left, right) = padding
    return _placed(padded, ((-above, -below), (-left, -right)))


def _correlate_each(arithmetic: Arithmetic, windows: Array, kernel: Array) -> Array:
    """Sums of products of each map's windows and its own kernel, (channels, height, width)."""
    sums: Array | None = None
    for row, column in np.ndindex(kernel.shape[-2:]):
        tap = kernel[..., None, :, row, column, None, None]
        part = arithmetic.multiply(windows[..., row, column], tap)
        sums = part if sums is None else arithmetic.add(sums, part)
    assert sums is not None  # noqa: S101  # kernels have elements
    return sums


def _placed(x: Array, padding: Padding, spread: Pair = (1, 1)) -> Array:
    """Maps with pixels at a distance, in a frame of zeros, or without what negative padding crops.

    Maps that remain as they are, or are cropped alone, are views.
    """
    if spread != (1, 1):
        height, width = (
            (size - 1) * step + 1 for size, step in zip(x.shape[-2:], spread, strict=True)
        )
        apart = np.zeros((*x.shape[:-2], height, width), x.dtype)
        apart[..., :: spread[0], :: spread[1]] = x
        x = apart
    crops = tuple(
        slice(max(0, -before), size + min(0, after))
        for size, (before, after) in zip(x.shape[-2:], padding, strict=True)
    )
    x = x[..., crops[0], crops[1]]
    border = [(max(0, before), max(0, after)) for before, after in padding]
    if not any(map(any, border)):
        return x
    height, width = (size + sum(ends) for size, ends in zip(x.shape[-2:], border, strict=True))
    framed = np.zeros((*x.shape[:-2], height, width), x.dtype)
    (above, _), (left, _) = border
    framed[..., above : above + x.shape[-2], left : left + x.shape[-1]] = x
    return framed


def _sliding(x: Array, kernel: Pair, strides: Pair, dilation: Pair) -> Array:
    """The windows of maps, (…, rows, columns, *kernel), as a view."""
    extent = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True))
    if any(size < least for size, least in zip(x.shape[-2:], extent, strict=True)):
        raise VerificationError(f"maps of {x.shape[-2:]} are smaller than a window of {extent}")
    view = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(-2, -1))
    return view[..., :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]


def _taps(
    kernel: Pair, count: Pair, strides: Pair, dilation: Pair
) -> Iterator[tuple[Pair, tuple[slice, slice]]]:
    """Each element of a window, and its places in maps, one for each window."""
    for tap in np.ndindex(kernel):
        row, column = (
            slice(at * far, at * far + (windows - 1) * stride + 1, stride)
            for at, windows, stride, far in zip(tap, count, strides, dilation, strict=True)
        )
        yield (tap[0], tap[1]), (row, column)
