"""JAX's convolutions and pools, as ``primitives`` describes rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.proof.program import Context
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.windows import Padding, Pair, correlate, scatter, windows_of
from cliquegraph_flax.moves import pad
from cliquegraph_flax.primitives import Argument, array, rule


@rule("conv_general_dilated")
def _convolve(
    context: Context,
    maps: Argument,
    kernel: Argument,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: object,
) -> Array:
    """A convolution, or one of the two that are its derivatives, in any order of axes."""
    exact = context.exact
    lead = exact.lead
    if len(window_strides) != 2:
        raise VerificationError(f"convolves over {len(window_strides)} axes, not 2")

    def ordered(a: Array, axes: Sequence[int]) -> Array:
        return a.transpose(*range(lead), *(lead + int(axis) for axis in axes))

    x = ordered(array(exact, maps), dimension_numbers.lhs_spec)
    weights = ordered(array(exact, kernel), dimension_numbers.rhs_spec)
    if batch_group_count > 1:
        # Groups of images, each with its own filters, are groups of channels of fewer images.
        batch, channels, *size = x.shape[lead:]
        few = batch // batch_group_count
        x = x.reshape(*x.shape[:lead], batch_group_count, few, channels, *size)
        x = x.swapaxes(lead, lead + 1).reshape(*x.shape[:lead], few, -1, *size)
    result = correlate(
        exact,
        x,
        weights,
        strides=_pair(window_strides),
        padding=_padding(padding),
        spread=_pair(lhs_dilation),
        dilation=_pair(rhs_dilation),
        groups=feature_group_count * batch_group_count,
    )
    return ordered(result, np.argsort(dimension_numbers.out_spec).tolist())


@rule("reduce_window_sum")
def _window_sums(
    context: Context,
    x: Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
    **_: object,
) -> Array:
    """Sums over windows along any axes: those of height and width, or of channels."""
    if set(window_dilation) != {1}:
        raise VerificationError("pools windows with gaps")
    config = [
        (int(low), int(high), far - 1)
        for (low, high), far in zip(padding, base_dilation, strict=True)
    ]
    view = pad(x, config)
    rank = len(window_dimensions)
    for axis, (size, stride) in enumerate(zip(window_dimensions, window_strides, strict=True)):
        if view.shape[axis - rank] < size:
            raise VerificationError("pools windows that are larger than maps")
        if (size, stride) == (1, 1):
            continue
        # Each axis on its own: fewer terms, and no others.
        at = view.ndim - rank + axis
        slid = np.lib.stride_tricks.sliding_window_view(view, size, at)
        slid = slid[(*(slice(None),) * at, slice(None, None, stride))]
        view = context.exact.total(slid, (-1,))
    return view


@rule("reduce_window_max")
def _window_maxima(context: Context, x: Array, **params: Any) -> Array:
    kernel, strides, padding = _pool(**params)
    windows, present = windows_of(np.moveaxis(x, -1, -3), kernel, strides, padding)
    return np.moveaxis(context.exact.maximum(windows, present), -3, -1)


@rule("select_and_scatter_add")
def _scatter_to_maxima(
    context: Context, change: Argument, x: Array, *, select_prim: Any, **params: Any
) -> Array:
    """The derivative of a maximum: what each window's is multiplied by goes to its elements."""
    if str(select_prim) != "ge":
        raise VerificationError(f"selects by {select_prim}")
    exact = context.exact
    kernel, strides, padding = _pool(**params)
    maps = np.moveaxis(x, -1, -3)
    windows, present = windows_of(maps, kernel, strides, padding)
    changes = np.moveaxis(array(exact, change), -1, -3)[..., None, None]
    shares = exact.multiply(exact.shares(windows, present), changes)
    size = (maps.shape[-2], maps.shape[-1])
    return np.moveaxis(scatter(exact, shares, size, strides, padding), -3, -1)


def _pool(
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] = (1,),
    window_dilation: Sequence[int] = (1,),
    **_: object,
) -> tuple[Pair, Pair, Padding]:
    """The windows of a pool over height and width, of maps with the channels last."""
    ends = [(int(low), int(high)) for low, high in padding]
    outer = [
        (window_dimensions[axis], window_strides[axis], ends[axis])
        for axis in range(len(ends))
        if axis not in (1, 2)
    ]
    if outer != [(1, 1, (0, 0))] * 2 or {*base_dilation, *window_dilation} != {1}:
        raise VerificationError("pools over other axes than height and width, or with gaps")
    return _pair(window_dimensions[1:3]), _pair(window_strides[1:3]), (ends[1], ends[2])


def _pair(sizes: Sequence[int]) -> Pair:
    height, width = sizes
    return int(height), int(width)


def _padding(sides: Sequence[tuple[int, int]]) -> Padding:
    (above, below), (left, right) = sides
    return (int(above), int(below)), (int(left), int(right))
