"""What the rules of ATen's operators share: the table of them, axes and shapes.

A rule is called with the arithmetic, and then as its operator, with arrays in place of tensors.
Arrays have the arithmetic's lanes in front, so rules count axes from the end. What is a view in
PyTorch is a view here, and what writes into a tensor writes into its array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, prod
from typing import Any, TypeVar

import numpy as np
from torch._ops import OpOverload

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Array, Number, rational
from cliquegraph.semantics.field import Exact
from cliquegraph.semantics.windows import Padding, Pair

Rule = Callable[..., Any]
R = TypeVar("R", bound=Callable[..., Any])
Operand = Array | int | float

RULES: dict[OpOverload, Rule] = {}
"""What each operator computes."""


def rule(*operators: OpOverload) -> Callable[[R], R]:
    """Register a function as the rule of operators."""

    def register(function: R) -> R:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def in_place(computes: Rule) -> Rule:
    """Return the rule that writes what another computes into its first operand."""

    def apply(exact: Exact, into: Array, *args: Any, **kwargs: Any) -> Array:
        into[...] = computes(exact, into, *args, **kwargs)
        return into

    return apply


def into(computes: Rule, name: str = "out") -> Rule:
    """Return the rule that writes what another computes into a given array."""

    def apply(exact: Exact, *args: Any, **kwargs: Any) -> Array:
        target: Array = kwargs.pop(name)
        target[...] = computes(exact, *args, **kwargs)
        return target

    return apply


def require(condition: bool, problem: str) -> None:
    """Raise if an operator's arguments are none that its rule knows.

    Raises:
        VerificationError: ``condition`` does not hold.
    """
    if not condition:
        raise VerificationError(f"has no meaning in exact arithmetic {problem}")


# ---- axes ----------------------------------------------------------------------------------


def axis(exact: Exact, x: Array, dim: int) -> int:
    """Return a dimension of a tensor as an axis of its array, from the end."""
    return dim if dim < 0 else dim - (x.ndim - exact.lead)


def axes(exact: Exact, x: Array, dims: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return dimensions as axes; none mean all of them."""
    if isinstance(dims, int):
        dims = [dims]
    chosen = dims or range(x.ndim - exact.lead)
    return tuple(axis(exact, x, dim) for dim in chosen)


def shape_of(exact: Exact, x: Array) -> tuple[int, ...]:
    """Return the shape of a tensor."""
    return x.shape[exact.lead :]


def lanes(exact: Exact, x: Array) -> tuple[int, ...]:
    """Return the shape of the lanes in front of it."""
    return x.shape[: exact.lead]


def aligned(exact: Exact, *operands: Array) -> list[Array]:
    """Return views of one number of axes, so that they broadcast behind the lanes."""
    most = max(operand.ndim for operand in operands)
    return [
        operand.reshape(
            (*lanes(exact, operand), *(1,) * (most - operand.ndim), *shape_of(exact, operand))
        )
        for operand in operands
    ]


def along(exact: Exact, vector: Array, x: Array) -> Array:
    """Return a vector of channels, dimension 1 of ``x``, in the shape that broadcasts with it."""
    after = (1,) * (x.ndim - exact.lead - 2)
    return vector.reshape(*lanes(exact, vector), 1, *shape_of(exact, vector), *after)


def but_channels(exact: Exact, x: Array) -> tuple[int, ...]:
    """Return all axes but that of the channels, dimension 1."""
    return axes(exact, x, [dim for dim in range(x.ndim - exact.lead) if dim != 1])


# ---- windows ------------------------------------------------------------------------------


def pair(values: Sequence[int]) -> Pair:
    """One number for each of height and width; a single one stands for both."""
    return values[0], values[-1]


def both(padding: Sequence[int]) -> Padding:
    """The same padding on both sides."""
    height, width = pair(padding)
    return (height, height), (width, width)


# ---- numbers -------------------------------------------------------------------------------


def number(value: float) -> Number:
    """Return the constant that a number of a program means.

    Raises:
        VerificationError: it is infinite, or not a number.
    """
    require(isfinite(value), f"of {value}")
    return rational(value)


def filled(exact: Exact, shape: Sequence[int], value: float) -> Array:
    """Return an array of one constant, which may be written."""
    one = exact.constant(np.asarray(float(number(value))))
    each = one.reshape((*one.shape, *(1,) * len(shape)))
    return np.array(np.broadcast_to(each, (*one.shape, *shape)))


def ones(exact: Exact, x: Array) -> Array:
    """Return ones of the shape of an array."""
    return filled(exact, shape_of(exact, x), 1)


def summed(exact: Exact, x: Array, over: tuple[int, ...], keep: bool = False) -> Array:
    """Return the sum over axes, which are kept with one element if ``keep``."""
    sums = exact.total(x, over) if over else x.copy()
    return np.expand_dims(sums, over) if keep else sums


def averaged(exact: Exact, x: Array, over: tuple[int, ...], keep: bool = False) -> Array:
    """Return the mean over axes."""
    count = prod(x.shape[each] for each in over)
    return exact.divide(summed(exact, x, over, keep), count)


def moments(exact: Exact, x: Array, over: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the mean over axes and the biased variance, which keep them with one element."""
    mean = averaged(exact, x, over, keep=True)
    centered = exact.subtract(x, mean)
    return mean, averaged(exact, exact.multiply(centered, centered), over, keep=True)


def inverse_root(exact: Exact, x: Array) -> Array:
    """1 / √x."""
    return exact.divide_by_root(ones(exact, x), x)
