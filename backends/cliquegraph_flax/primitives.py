"""What JAX's primitives compute, in exact arithmetic.

A rule receives the context, the arguments and the parameters of a primitive. Arguments are arrays
with the lanes of the arithmetic in front, so axes are counted from the end, or constants. Rules
use the methods of the arithmetic, and NumPy to move elements. Booleans are masks: numbers by which
``select_n`` multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.proof.program import Context
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.field import Exact
from cliquegraph.semantics.windows import product
from cliquegraph_flax.known import Known

Argument = Any  # an array or a ``Known``
Rule = Callable[..., "Array | Sequence[Array]"]
RULES: dict[str, Rule] = {}
_Rule = TypeVar("_Rule", bound=Rule)

_COMPARES = "compares values of tensors, which has no meaning in exact arithmetic"


def rule(*primitives: str) -> Callable[[_Rule], _Rule]:
    """Decorate the rule of one or several primitives."""

    def add(function: _Rule) -> _Rule:
        RULES.update(dict.fromkeys(primitives, function))
        return function

    return add


def full(exact: Exact, constant: Known) -> Array:
    """Return a constant as an array."""
    element = exact.constant(np.zeros(()))
    number = _number(constant)
    if number:
        element = exact.offset(element, number)
    lanes = element.shape[: exact.lead]
    spread = element.reshape(*lanes, *(1,) * len(constant.shape))
    return np.broadcast_to(spread, (*lanes, *constant.shape))


def array(exact: Exact, argument: Argument) -> Array:
    """Return an argument as an array."""
    if isinstance(argument, Known):
        return full(exact, argument)
    return np.asarray(argument)


def _number(constant: Known) -> Fraction:
    if constant.number is None:
        raise VerificationError(f"computes with {constant.value}, which is no number")
    return constant.number


def _aligned(exact: Exact, *arrays: Array) -> tuple[Array, ...]:
    """Arrays that broadcast: primitives accept scalars beside arrays."""
    rank = max(each.ndim for each in arrays)

    def align(each: Array) -> Array:
        lanes = each.shape[: exact.lead]
        return each.reshape(*lanes, *(1,) * (rank - each.ndim), *each.shape[exact.lead :])

    return tuple(map(align, arrays))


def _per_distinct(function: Callable[[Array], Array], a: Array) -> Array:
    """Apply a costly function to each element, but once to those that are broadcast."""
    once = tuple(slice(0, 1) if step == 0 else slice(None) for step in a.strides)
    return np.broadcast_to(function(a[once]), a.shape)


# ---- sums and products -------------------------------------------------------------------------


@rule("add", "add_any")
def _add(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    exact = context.exact
    if isinstance(a, Known):
        a, b = b, a
    if isinstance(b, Known):
        number = _number(b)
        return exact.offset(a, number) if number else np.asarray(a)
    return exact.add(*_aligned(exact, a, b))


@rule("sub")
def _subtract(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    exact = context.exact
    if isinstance(b, Known):
        return _add(context, a, Known(-_number(b)))
    if isinstance(a, Known):
        return _add(context, exact.scale(b, -1), a)
    return exact.subtract(*_aligned(exact, a, b))


@rule("mul")
def _multiply(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    exact = context.exact
    if isinstance(a, Known):
        a, b = b, a
    if isinstance(b, Known):
        number = _number(b)
        return np.asarray(a) if number == 1 else exact.scale(a, number)
    return exact.multiply(*_aligned(exact, a, b))


@rule("div")
def _divide(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    if isinstance(b, Known):
        number = _number(b)
        if not number:
            raise VerificationError("divides by 0")
        return _multiply(context, a, Known(1 / number))
    return _multiply(context, a, _per_distinct(context.exact.inverse, b))


@rule("neg")
def _negate(context: Context, a: Array, **_: object) -> Array:
    return context.exact.scale(a, -1)


@rule("square")
def _square(context: Context, a: Array, **_: object) -> Array:
    return context.exact.multiply(a, a)


@rule("integer_pow")
def _integer_power(context: Context, a: Array, *, y: int, **_: object) -> Array:
    if not y:
        return full(context.exact, Known(1, a.shape[context.exact.lead :]))

    def raised(each: Array) -> Array:
        result = each
        for _ in range(abs(y) - 1):
            result = context.exact.multiply(result, each)
        return result if y > 0 else context.exact.inverse(result)

    return _per_distinct(raised, a)


@rule("reduce_sum")
def _sum(context: Context, a: Array, *, axes: Sequence[int], **_: object) -> Array:
    rank = a.ndim - context.exact.lead
    return context.exact.total(a, tuple(axis - rank for axis in axes))


@rule("dot_general")
def _dot(
    context: Context, a: Argument, b: Argument, *, dimension_numbers: Any, **_: object
) -> Array:
    """Sums of products over some axes of both; with common axes in front."""
    exact = context.exact
    a, b = array(exact, a), array(exact, b)
    (summed_a, summed_b), (common_a, common_b) = dimension_numbers

    def arranged(each: Array, summed: Sequence[int], common: Sequence[int]) -> tuple[Array, Any]:
        rank = each.ndim - exact.lead
        free = [axis for axis in range(rank) if axis not in (*summed, *common)]
        order = (*range(exact.lead), *(exact.lead + axis for axis in (*common, *free, *summed)))
        moved = each.transpose(order)
        sizes = moved.shape[exact.lead :]
        kept = sizes[: len(common)], sizes[len(common) : len(common) + len(free)]
        count = int(np.prod(kept[1], dtype=np.int64))
        return moved.reshape(*moved.shape[: exact.lead], *kept[0], count, -1), kept

    left, (common, rows) = arranged(a, summed_a, common_a)
    right, (_, columns) = arranged(b, summed_b, common_b)
    result = product(exact, left, right.swapaxes(-1, -2))
    return result.reshape(*result.shape[: exact.lead], *common, *rows, *columns)


# ---- opaque functions --------------------------------------------------------------------------


@rule("sqrt")
def _root(context: Context, a: Array, **_: object) -> Array:
    return _per_distinct(context.exact.root, a)


@rule("rsqrt")
def _inverse_root(context: Context, a: Array, **_: object) -> Array:
    one = full(context.exact, Known(1, a.shape[context.exact.lead :]))
    return context.exact.divide_by_root(one, a)


@rule("rsqrt_over")
def _inverse_root_over(context: Context, a: Array, **_: object) -> Array:
    """a^(-1/2) / a, with which JAX differentiates: a power of a^(-1/2), as in √'s derivative."""
    inverse = _inverse_root(context, a)
    return context.exact.multiply(inverse, context.exact.multiply(inverse, inverse))


@rule("pow")
def _power(context: Context, a: Array, exponent: Argument, **_: object) -> Array:
    if not isinstance(exponent, Known):
        raise VerificationError("has an exponent that is not a constant")
    number = _number(exponent)
    return _per_distinct(lambda each: context.exact.power(each, number), a)


@rule("logistic")
def _sigmoid(context: Context, a: Array, **_: object) -> Array:
    return context.exact.sigmoid(a)


@rule("max")
def _relu(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    if isinstance(a, Known):
        a, b = b, a
    if not isinstance(b, Known) or b.number != 0:
        raise VerificationError(_COMPARES)
    return context.exact.relu(a)


@rule("gt")
def _is_positive(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    """The mask of ReLU's derivative."""
    if isinstance(a, Known) or not isinstance(b, Known) or b.number != 0:
        raise VerificationError(_COMPARES)
    return context.exact.step(context.exact.relu(a))


@rule("lt")
def _is_less(context: Context, a: Argument, b: Argument, **_: object) -> Array:
    return _is_positive(context, b, a)


@rule("select_n")
def _select(context: Context, mask: Argument, *cases: Argument, **_: object) -> Array:
    """mask × yes + (1 - mask) × no."""
    exact = context.exact
    if isinstance(mask, Known) or len(cases) != 2:
        raise VerificationError("selects by something other than a mask")
    no, yes = cases
    parts: list[Array] = []
    if not _is_zero(yes):
        parts.append(_multiply(context, mask, yes))
    if not _is_zero(no):
        rest = exact.offset(exact.scale(mask, -1), 1)
        parts.append(_multiply(context, rest, no))
    if not parts:
        return full(exact, yes)
    return parts[0] if len(parts) == 1 else exact.add(*_aligned(exact, *parts))


def _is_zero(argument: Argument) -> bool:
    return isinstance(argument, Known) and argument.number == 0


@rule("reduce_max")
def _maximum(context: Context, a: Array, *, axes: Sequence[int], **_: object) -> Array:
    rank = a.ndim - context.exact.lead
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(a, [axis - rank for axis in axes], last)
    windows = moved.reshape(*moved.shape[: moved.ndim - len(axes)], 1, -1)
    return context.exact.maximum(windows, np.ones(windows.shape[-2:], bool))


# ---- random choices ----------------------------------------------------------------------------


@rule("draw")
def _draw(
    context: Context,
    *column: Array,
    number: int,
    law: tuple[object, ...],
    shape: tuple[int, ...],
    **_: object,
) -> Array:
    """What is drawn at random; the column that a join keeps is part of its law."""
    if len(shape) != 4:
        return context.draw(number, law, shape)
    batch, height, width, channels = shape
    return np.moveaxis(context.draw(number, law, (batch, channels, height, width)), -3, -1)
