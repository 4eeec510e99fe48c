"""Constants of a jaxpr: what can be computed without knowing any tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite, prod
from typing import Any

import numpy as np

from cliquegraph.semantics.arithmetic import Array, rational

Value = bool | int | float | Fraction


@dataclass(frozen=True)
class Known:
    """An array of which all elements are one constant.

    Attributes:
        value: of floats, the simplest fraction that rounds to it; a float only if not finite.
        shape: of the array.
    """

    value: Value
    shape: tuple[int, ...] = ()

    @property
    def number(self) -> Fraction | None:
        """The number that it is in a field; None if there is none."""
        if isinstance(self.value, float | bool):
            return None
        return Fraction(self.value)

    def __repr__(self) -> str:
        kind = "" if isinstance(self.value, Fraction) else type(self.value).__name__
        return f"{kind}({self.value})"


def known(values: Any) -> Known | None:
    """Return an array of JAX or NumPy as a constant; None if its elements differ."""
    array: Array = np.asarray(values)
    if not array.size or (array.size > 1 and (array != array.flat[0]).any()):
        return None
    element = array.flat[0]
    if array.dtype == np.bool_:
        return Known(bool(element), array.shape)
    if np.issubdtype(array.dtype, np.integer):
        return Known(int(element), array.shape)
    number = float(element)
    return Known(rational(number) if isfinite(number) else number, array.shape)


def evaluate(
    primitive: str, inputs: Sequence[Known], params: Mapping[str, Any], shape: tuple[int, ...]
) -> Known | None:
    """Return the result of a primitive on constants; None if it is none that we compute."""
    values = [each.value for each in inputs]
    value: Value | None = None
    if primitive in _ELEMENTWISE:
        value = _ELEMENTWISE[primitive](*values)
    elif primitive in _MOVES and values and all(each == values[0] for each in values):
        value = values[0]
    elif primitive == "div" and values[1] and isinstance(values[1], Fraction):
        value = values[0] / values[1]
    elif primitive == "integer_pow" and (values[0] or params["y"] >= 0):
        value = Fraction(values[0]) ** params["y"] if isfinite(values[0]) else None
    elif primitive == "select_n" and isinstance(values[0], bool):
        value = values[1 + values[0]]
    elif primitive == "convert_element_type":
        value = _converted(values[0], np.dtype(params["new_dtype"]))
    elif primitive == "reduce_sum":
        value = values[0] * prod(inputs[0].shape[axis] for axis in params["axes"])
    return None if value is None else Known(value, shape)


def _converted(value: Value, dtype: np.dtype[Any]) -> Value | None:
    """A constant in another type, if that represents it."""
    if np.issubdtype(dtype, np.floating):
        return value if isinstance(value, float) else Fraction(value)
    if np.issubdtype(dtype, np.integer) and not isinstance(value, float) and value == int(value):
        return int(value)
    return bool(value) if dtype == np.bool_ else None


_ELEMENTWISE: dict[str, Callable[..., Value]] = {
    "add": operator.add,
    "add_any": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "square": lambda a: a * a,
    "max": max,
    "min": min,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}

# All elements of the results are elements of the arguments.
_MOVES = frozenset(
    {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "rev", "slice"}
    | {"concatenate", "copy", "copy_p", "stop_gradient", "pad", "reduce_max", "reduce_min"}
    | {"reduce_and", "reduce_or"}
)
