"""Rules of ATen's operators that create tensors, or move elements without computing any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.field import Exact
from cliquegraph_torch.aten_rules import (
    axes,
    axis,
    filled,
    into,
    lanes,
    require,
    rule,
    shape_of,
)

_ATEN = torch.ops.aten

# ---- new tensors -------------------------------------------------------------------------------


@rule(_ATEN.full.default)
def full(exact: Exact, size: Sequence[int], value: float, **kwargs: object) -> Array:
    """One number everywhere."""
    return filled(exact, size, value)


@rule(_ATEN.full_like.default)
def full_like(exact: Exact, x: Array, value: float, **kwargs: object) -> Array:
    """One number everywhere, in the shape of another."""
    return filled(exact, shape_of(exact, x), value)


@rule(_ATEN.new_full.default)
def new_full(exact: Exact, x: Array, size: Sequence[int], value: float, **kwargs: object) -> Array:
    """One number everywhere."""
    return filled(exact, size, value)


@rule(_ATEN.zeros.default)
def zeros(exact: Exact, size: Sequence[int], **kwargs: object) -> Array:
    """Zeros."""
    return filled(exact, size, 0)


@rule(_ATEN.ones.default)
def all_ones(exact: Exact, size: Sequence[int], **kwargs: object) -> Array:
    """Ones."""
    return filled(exact, size, 1)


@rule(_ATEN.zeros_like.default)
def zeros_like(exact: Exact, x: Array, **kwargs: object) -> Array:
    """Zeros in the shape of another."""
    return filled(exact, shape_of(exact, x), 0)


@rule(_ATEN.ones_like.default)
def ones_like(exact: Exact, x: Array, **kwargs: object) -> Array:
    """Ones in the shape of another."""
    return filled(exact, shape_of(exact, x), 1)


@rule(_ATEN.new_zeros.default)
def new_zeros(exact: Exact, x: Array, size: Sequence[int], **kwargs: object) -> Array:
    """Zeros."""
    return filled(exact, size, 0)


@rule(_ATEN.new_ones.default)
def new_ones(exact: Exact, x: Array, size: Sequence[int], **kwargs: object) -> Array:
    """Ones."""
    return filled(exact, size, 1)


@rule(_ATEN.scalar_tensor.default)
def scalar(exact: Exact, value: float, **kwargs: object) -> Array:
    """A number."""
    return filled(exact, (), value)


@rule(_ATEN.arange.default, _ATEN.arange.start, _ATEN.arange.start_step)
def arange(exact: Exact, *bounds: float, **kwargs: object) -> Array:
    """Numbers at equal distances."""
    return exact.constant(np.arange(*bounds))


@rule(_ATEN.empty.memory_format)
def empty(exact: Exact, size: Sequence[int], **kwargs: object) -> Array:
    """What stands in memory: random numbers, so that a result that depends on it differs."""
    return exact.draw(*size)


@rule(_ATEN.empty_like.default)
def empty_like(exact: Exact, x: Array, **kwargs: object) -> Array:
    """What stands in memory."""
    return exact.draw(*shape_of(exact, x))


@rule(_ATEN.new_empty.default, _ATEN.new_empty_strided.default)
def new_empty(exact: Exact, x: Array, size: Sequence[int], *args: Any, **kwargs: Any) -> Array:
    """What stands in memory."""
    return exact.draw(*size)


@rule(_ATEN.empty_strided.default)
def empty_strided(exact: Exact, size: Sequence[int], *args: Any, **kwargs: object) -> Array:
    """What stands in memory."""
    return exact.draw(*size)


@rule(_ATEN.zero_.default)
def set_zero(exact: Exact, x: Array) -> Array:
    """Write zeros."""
    x[...] = filled(exact, (1,) * (x.ndim - exact.lead), 0)
    return x


@rule(_ATEN.fill_.Scalar)
def fill(exact: Exact, x: Array, value: float) -> Array:
    """Write one number everywhere."""
    x[...] = filled(exact, (1,) * (x.ndim - exact.lead), value)
    return x


@rule(_ATEN.copy_.default)
def overwrite(exact: Exact, x: Array, source: Array, non_blocking: bool = False) -> Array:
    """Write the elements of another, which broadcasts."""
    x[...] = expand(exact, source, shape_of(exact, x))
    return x


@rule(_ATEN.clone.default, _ATEN._to_copy.default, _ATEN.lift_fresh_copy.default)
def clone(exact: Exact, x: Array, **kwargs: object) -> Array:
    """A copy; types of numbers have no meaning in exact arithmetic."""
    return x.copy()


# ---- views -------------------------------------------------------------------------------------


@rule(_ATEN.detach.default, _ATEN.alias.default, _ATEN.lift_fresh.default)
def same(exact: Exact, x: Array) -> Array:
    """The same tensor."""
    return x


@rule(_ATEN.view.default, _ATEN._unsafe_view.default, _ATEN._reshape_alias.default)
def view(exact: Exact, x: Array, size: Sequence[int], strides: object = None) -> Array:
    """A view of another shape.

    Raises:
        VerificationError: it would have to be a copy.
    """
    seen = x.reshape((*lanes(exact, x), *size))
    if x.size and not np.shares_memory(x, seen):
        raise VerificationError(f"{shape_of(exact, x)} can't be seen as {tuple(size)} in place")
    return seen


@rule(_ATEN.expand.default)
def expand(exact: Exact, x: Array, size: Sequence[int], implicit: bool = False) -> Array:
    """A view in which dimensions of one element are repeated."""
    more = len(size) - (x.ndim - exact.lead)
    before = x.reshape((*lanes(exact, x), *(1,) * more, *shape_of(exact, x)))
    sizes = zip(shape_of(exact, before), size, strict=True)
    return np.broadcast_to(before, (*lanes(exact, x), *(a if b == -1 else b for a, b in sizes)))


@rule(_ATEN.as_strided.default)
def as_strided(
    exact: Exact, x: Array, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Array:
    """A view of some of the elements, of a tensor that is contiguous in PyTorch.

    Raises:
        VerificationError: it isn't contiguous here.
    """
    require(x.flags.c_contiguous, "of a tensor that is not contiguous")
    flat = x.reshape((*lanes(exact, x), -1))[..., offset or 0 :]
    last = sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    require(last < flat.shape[-1], "beyond its elements")
    strides = (*flat.strides[:-1], *(step * x.itemsize for step in stride))
    return np.lib.stride_tricks.as_strided(flat, (*lanes(exact, x), *size), strides)


@rule(_ATEN.permute.default)
def permute(exact: Exact, x: Array, dims: Sequence[int]) -> Array:
    """Dimensions in another order."""
    order = [each + x.ndim for each in axes(exact, x, dims)]
    return x.transpose(*range(exact.lead), *order)


@rule(_ATEN.transpose.int)
def transpose(exact: Exact, x: Array, first: int, second: int) -> Array:
    """Two dimensions exchanged."""
    return x.swapaxes(axis(exact, x, first), axis(exact, x, second))


@rule(_ATEN.t.default)
def transpose_matrix(exact: Exact, x: Array) -> Array:
    """Rows and columns exchanged."""
    return x.swapaxes(-1, -2) if x.ndim - exact.lead == 2 else x


@rule(_ATEN.unsqueeze.default)
def unsqueeze(exact: Exact, x: Array, dim: int) -> Array:
    """Another dimension, of one element."""
    return np.expand_dims(x, dim if dim < 0 else dim + exact.lead)


@rule(_ATEN.squeeze.default, _ATEN.squeeze.dim, _ATEN.squeeze.dims)
def squeeze(exact: Exact, x: Array, dims: int | Sequence[int] | None = None) -> Array:
    """Without dimensions of one element."""
    return x.squeeze(tuple(each for each in axes(exact, x, dims) if x.shape[each] == 1))


@rule(_ATEN.select.int)
def select(exact: Exact, x: Array, dim: int, index: int) -> Array:
    """One index of a dimension."""
    # An ellipsis, so that one element is a view as well.
    return np.moveaxis(x, axis(exact, x, dim), -1)[..., index]


@rule(_ATEN.slice.Tensor)
def cut(
    exact: Exact,
    x: Array,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Array:
    """A range of a dimension."""
    return np.moveaxis(_range(exact, x, dim, slice(start, end, step)), -1, axis(exact, x, dim))


@rule(_ATEN.unbind.int)
def unbind(exact: Exact, x: Array, dim: int = 0) -> list[Array]:
    """Each index of a dimension."""
    return [select(exact, x, dim, index) for index in range(x.shape[axis(exact, x, dim)])]


@rule(_ATEN.split_with_sizes.default)
def split_by_sizes(exact: Exact, x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    """Ranges of a dimension."""
    return np.split(x, np.cumsum(sizes)[:-1], axis(exact, x, dim))


@rule(_ATEN.split.Tensor)
def split(exact: Exact, x: Array, size: int, dim: int = 0) -> list[Array]:
    """Ranges of one size, the last of which may be smaller."""
    along = axis(exact, x, dim)
    return np.split(x, range(size, x.shape[along], size), along)


def _range(exact: Exact, x: Array, dim: int, index: slice) -> Array:
    """A range of a dimension, which becomes the last axis."""
    return np.moveaxis(x, axis(exact, x, dim), -1)[..., index]


# ---- copies ------------------------------------------------------------------------------------


@rule(_ATEN.cat.default)
def concatenate(exact: Exact, parts: Sequence[Array], dim: int = 0) -> Array:
    """Tensors behind one another; PyTorch ignores empty vectors."""
    some = [part for part in parts if shape_of(exact, part) != (0,)] or list(parts)
    return np.concatenate(some, axis(exact, some[0], dim))


@rule(_ATEN.stack.default)
def stack(exact: Exact, parts: Sequence[Array], dim: int = 0) -> Array:
    """Tensors behind one another, along another dimension."""
    return np.stack(parts, dim if dim < 0 else dim + exact.lead)


rule(_ATEN.cat.out)(into(concatenate))
rule(_ATEN.stack.out)(into(stack))


@rule(_ATEN.slice_backward.default)
def cut_backward(
    exact: Exact, grad: Array, size: Sequence[int], dim: int, start: int, end: int, step: int
) -> Array:
    """The gradient of a range of a dimension."""
    whole = np.zeros((*lanes(exact, grad), *size), grad.dtype)
    cut(exact, whole, dim, start, end, step)[...] = grad
    return whole


@rule(_ATEN.select_backward.default)
def select_backward(exact: Exact, grad: Array, size: Sequence[int], dim: int, index: int) -> Array:
    """The gradient of one index of a dimension."""
    whole = np.zeros((*lanes(exact, grad), *size), grad.dtype)
    select(exact, whole, dim, index)[...] = grad
    return whole


@rule(_ATEN.constant_pad_nd.default)
def pad(exact: Exact, x: Array, sizes: Sequence[int], value: float = 0) -> Array:
    """A frame of one number; where it is negative, less of the tensor."""
    ends = list(zip(sizes[::2], sizes[1::2], strict=True))[::-1]  # of the last dimension first
    inner = [slice(None)] * (x.ndim - len(ends))
    inner += [
        slice(max(0, -before), x.shape[at - len(ends)] + min(0, after))
        for at, (before, after) in enumerate(ends)
    ]
    cropped = x[tuple(inner)]
    border = [(0, 0)] * (x.ndim - len(ends)) + [(max(0, a), max(0, b)) for a, b in ends]
    if not value:
        return np.array(np.pad(cropped, border))
    shape = tuple(size + sum(each) for size, each in zip(cropped.shape, border, strict=True))
    framed = filled(exact, shape[exact.lead :], value)
    framed[
        tuple(slice(a, a + size) for (a, _), size in zip(border, cropped.shape, strict=True))
    ] = cropped
    return framed


@rule(_ATEN.flip.default)
def flip(exact: Exact, x: Array, dims: Sequence[int]) -> Array:
    """Dimensions in reverse order."""
    return np.flip(x, axes(exact, x, dims)).copy() if dims else x.copy()


@rule(_ATEN.repeat.default)
def repeat(exact: Exact, x: Array, repeats: Sequence[int]) -> Array:
    """The tensor several times along each dimension."""
    more = len(repeats) - (x.ndim - exact.lead)
    require(more >= 0, "of fewer repeats than dimensions")
    before = x.reshape((*lanes(exact, x), *(1,) * more, *shape_of(exact, x)))
    return np.tile(before, (*(1,) * exact.lead, *repeats))
