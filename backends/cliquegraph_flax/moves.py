"""JAX's primitives that move elements and compute nothing, as ``primitives`` describes rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.proof.program import Context
from cliquegraph.semantics.arithmetic import Array
from cliquegraph_flax.known import Known
from cliquegraph_flax.primitives import Argument, array, full, rule


def pad(a: Array, config: Sequence[tuple[int, int, int]]) -> Array:
    """Return an array with zeros around and between its elements along its last axes.

    Args:
        a: the array.
        config: for each axis how many zeros are before, behind and between; negative ones crop.
    """
    first = a.ndim - len(config)
    for axis, (before, behind, between) in enumerate(config, first):
        if not (before or behind or between):
            continue
        size = a.shape[axis] + max(a.shape[axis] - 1, 0) * between
        shape = list(a.shape)
        shape[axis] = max(before, 0) + size + max(behind, 0)
        framed = np.zeros(shape, a.dtype)
        start = max(before, 0)
        framed[_along(axis, slice(start, start + size, between + 1))] = a
        end = shape[axis] - max(-behind, 0)
        a = framed[_along(axis, slice(max(-before, 0), end))]
    return a


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)


@rule("pad")
def _pad(
    context: Context, a: Argument, value: Argument, *, padding_config: Sequence[Any], **_: object
) -> Array:
    if not isinstance(value, Known) or value.number != 0:
        raise VerificationError("pads with something other than 0")
    config = [(int(low), int(high), int(inner)) for low, high, inner in padding_config]
    return pad(array(context.exact, a), config)


@rule("broadcast_in_dim")
def _broadcast(
    context: Context,
    a: Array,
    *,
    shape: Sequence[int],
    broadcast_dimensions: Sequence[int],
    **_: object,
) -> Array:
    lead = context.exact.lead
    sizes = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, a.shape[lead:], strict=True):
        sizes[axis] = size
    lanes = a.shape[:lead]
    return np.broadcast_to(a.reshape(*lanes, *sizes), (*lanes, *shape))


@rule("reshape")
def _reshape(
    context: Context,
    a: Array,
    *,
    new_sizes: Sequence[int],
    dimensions: Sequence[int] | None = None,
    **_: object,
) -> Array:
    if dimensions is not None:
        a = _transpose(context, a, permutation=dimensions)
    return a.reshape(*a.shape[: context.exact.lead], *new_sizes)


@rule("squeeze")
def _squeeze(context: Context, a: Array, *, dimensions: Sequence[int], **_: object) -> Array:
    return np.squeeze(a, tuple(axis + context.exact.lead for axis in dimensions))


@rule("expand_dims")
def _expand(context: Context, a: Array, *, dimensions: Sequence[int], **_: object) -> Array:
    return np.expand_dims(a, tuple(axis + context.exact.lead for axis in dimensions))


@rule("transpose")
def _transpose(context: Context, a: Array, *, permutation: Sequence[int], **_: object) -> Array:
    lead = context.exact.lead
    return a.transpose(*range(lead), *(axis + lead for axis in permutation))


@rule("rev")
def _reverse(context: Context, a: Array, *, dimensions: Sequence[int], **_: object) -> Array:
    return np.flip(a, tuple(axis + context.exact.lead for axis in dimensions))


@rule("concatenate")
def _concatenate(context: Context, *parts: Argument, dimension: int, **_: object) -> Array:
    exact = context.exact
    return np.concatenate([array(exact, part) for part in parts], dimension + exact.lead)


@rule("stack")
def _stack(context: Context, *parts: Argument, axis: int, **_: object) -> Array:
    exact = context.exact
    return np.stack([array(exact, part) for part in parts], axis + exact.lead)


@rule("unstack")
def _unstack(context: Context, a: Array, *, axis: int, **_: object) -> list[Array]:
    return list(np.moveaxis(a, axis + context.exact.lead, 0))


@rule("split")
def _split(
    context: Context, a: Array, *, sizes: Sequence[int], axis: int, **_: object
) -> list[Array]:
    return np.split(a, np.cumsum(sizes)[:-1], axis + context.exact.lead)


@rule("slice")
def _slice(
    context: Context,
    a: Array,
    *,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None,
    **_: object,
) -> Array:
    steps = strides or (1,) * len(start_indices)
    parts = map(slice, start_indices, limit_indices, steps)
    return a[(*(slice(None),) * context.exact.lead, *parts)]


@rule("dynamic_slice")
def _dynamic_slice(
    context: Context, a: Array, *starts: Argument, slice_sizes: Sequence[int], **_: object
) -> Array:
    lead = context.exact.lead
    first = _starts(a.shape[lead:], starts, slice_sizes)
    parts = (slice(at, at + size) for at, size in zip(first, slice_sizes, strict=True))
    return a[(*(slice(None),) * lead, *parts)]


@rule("dynamic_update_slice")
def _dynamic_update_slice(
    context: Context, a: Argument, part: Argument, *starts: Argument, **_: object
) -> Array:
    exact = context.exact
    whole, part = array(exact, a).copy(), array(exact, part)
    sizes = part.shape[exact.lead :]
    first = _starts(whole.shape[exact.lead :], starts, sizes)
    parts = (slice(at, at + size) for at, size in zip(first, sizes, strict=True))
    whole[(*(slice(None),) * exact.lead, *parts)] = part
    return whole


def _starts(
    shape: Sequence[int], starts: Sequence[Argument], sizes: Sequence[int]
) -> tuple[int, ...]:
    """Where a part begins that must lie within an array."""
    if not all(isinstance(start, Known) and isinstance(start.value, int) for start in starts):
        raise VerificationError("has an index that depends on tensors")
    return tuple(
        min(max(start.value, 0), whole - size)
        for start, whole, size in zip(starts, shape, sizes, strict=True)
    )


@rule("constant")
def _constant(context: Context, *, values: Any) -> Array:
    """An array of constants; booleans are masks."""
    if isinstance(values, Known):
        return full(context.exact, values)
    return context.exact.constant(np.asarray(values, np.float64))
