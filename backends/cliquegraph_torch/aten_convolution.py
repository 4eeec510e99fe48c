"""Rules of ATen's convolutions and of their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.field import Exact
from cliquegraph.semantics.windows import Pair, correlate, windows_of
from cliquegraph_torch.aten_rules import both, pair, require, rule, shape_of, summed

_ATEN = torch.ops.aten
_PLANE = (-2, -1)


@rule(_ATEN.convolution.default)
def convolution(
    exact: Exact,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    """The convolution of zero-padded maps."""
    _require_plane(exact, x, transposed)
    maps = correlate(
        exact,
        x,
        weight,
        strides=pair(stride),
        padding=both(padding),
        dilation=pair(dilation),
        groups=groups,
    )
    return maps if bias is None else exact.add(maps, bias[..., None, :, None, None])


@rule(_ATEN.convolution_backward.default)
def convolution_backward(
    exact: Exact,
    grad: Array,
    x: Array,
    weight: Array,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of convolution: of maps, kernels and bias."""
    _require_plane(exact, x, transposed)
    steps, frame, far = pair(stride), pair(padding), pair(dilation)
    grad_x = grad_weight = grad_bias = None
    if wanted[0]:
        grad_x = _of_maps(exact, grad, x.shape[-2:], weight, steps, frame, far, groups)
    if wanted[1]:
        grad_weight = _of_kernels(exact, grad, x, weight.shape, steps, frame, far, groups)
    if wanted[2]:
        grad_bias = summed(exact, grad, (-4, *_PLANE))
    return grad_x, grad_weight, grad_bias


def _of_maps(
    exact: Exact,
    grad: Array,
    size: tuple[int, ...],
    weight: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """The gradient of maps: a convolution of gradients, at the stride, by reversed kernels."""
    lead, (filters, members, height, width) = weight.shape[:-4], weight.shape[-4:]
    kernels = weight.reshape(*lead, groups, filters // groups, members, height, width)
    kernels = kernels.swapaxes(-4, -3)[..., ::-1, ::-1]
    kernels = kernels.reshape(*lead, groups * members, filters // groups, height, width)
    ends = []
    for at in range(2):
        reach = dilation[at] * (weight.shape[at - 2] - 1)
        spread = stride[at] * (grad.shape[at - 2] - 1) + 1
        # Of the size of the maps; what the last window does not reach has a gradient of 0.
        ends.append((reach - padding[at], size[at] - spread + padding[at]))
    frame = (ends[0], ends[1])
    return correlate(
        exact, grad, kernels, padding=frame, spread=stride, dilation=dilation, groups=groups
    )


def _of_kernels(
    exact: Exact,
    grad: Array,
    x: Array,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """The gradient of kernels: the products of gradients and each element of the windows."""
    filters, members = shape[-4:-2]
    kernel = pair(shape[-2:])
    ends = []
    for at in range(2):
        reach = dilation[at] * (kernel[at] - 1) + stride[at] * (grad.shape[at - 2] - 1) + 1
        ends.append((padding[at], reach - x.shape[at - 2] - padding[at]))
    frame = (ends[0], ends[1])
    if members == 1 and filters == groups:
        # Of depthwise kernels: no two channels meet.
        windows, _ = windows_of(x, kernel, stride, frame, dilation)
        result = np.empty(shape, grad.dtype)
        for tap in np.ndindex(kernel):
            products = exact.multiply(grad, windows[(..., *tap)])
            result[(..., 0, *tap)] = exact.total(products, (-4, *_PLANE))
        return result
    parts = [
        # Channels are the batch of a convolution by gradients, whose channels are the batch.
        correlate(
            exact,
            x[..., group * members : (group + 1) * members, :, :].swapaxes(-4, -3),
            grad[..., slots, :, :].swapaxes(-4, -3),
            strides=dilation,
            padding=frame,
            dilation=stride,
        ).swapaxes(-4, -3)
        for group, slots in enumerate(_slots(filters, groups))
    ]
    return np.concatenate(parts, -4)


def _slots(filters: int, groups: int) -> Iterator[slice]:
    """The filters of each group."""
    each = filters // groups
    for group in range(groups):
        yield slice(group * each, (group + 1) * each)


def _require_plane(exact: Exact, x: Array, transposed: bool) -> None:
    require(len(shape_of(exact, x)) == 4, "of other than images")
    require(not transposed, "if it is transposed")
