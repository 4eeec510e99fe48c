"""Converts jaxprs, nested and with constants, into flat programs of steps that know exact rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from types import CodeType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.proof.program import Apply, Context, Step
from cliquegraph.semantics.arithmetic import Array

# The rules of these modules are added to the table when they are imported.
from cliquegraph_flax import moves, windows  # noqa: F401  # they fill the table of rules
from cliquegraph_flax.known import Known, evaluate, known
from cliquegraph_flax.primitives import RULES, Rule

Value = int | Known
"""A value of a program by its number, or a constant, which has none."""

Type = tuple[tuple[int, ...], Any]
"""The shape and type of an array."""

# What calls a jaxpr, and the parameter that contains it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
_OWN_LINES = frozenset({"remat2", "checkpoint"})
_SAME = frozenset({"stop_gradient", "copy", "copy_p", "optimization_barrier", "name"})
_NUMBERS, _MASKS = np.dtype(np.float64), np.dtype(np.bool_)
_MOST_ELEMENTS = 64  # that are written into a step's attributes


@dataclass(frozen=True)
class _Call:
    """A primitive that is applied; nobody may need its results."""

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[Value, ...]
    outputs: tuple[int, ...]
    types: tuple[Type, ...]
    line: int | None


@dataclass
class Flattened:
    """The primitives of a jaxpr, one after the other.

    Args:
        file: of the model's source, whose lines the steps get.
        inputs: how many values are given; they have the first numbers.
    """

    file: str
    inputs: int
    _calls: list[_Call] = field(default_factory=list)
    _makers: dict[int, _Call] = field(default_factory=dict)
    _constants: dict[tuple[object, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count(self.inputs)

    def run(
        self, jaxpr: Any, constants: Sequence[Any], values: Sequence[Value], line: int | None = None
    ) -> list[Value]:
        """Add the primitives of a jaxpr; return its results.

        Args:
            jaxpr: the jaxpr, not closed.
            constants: the values that it closes over.
            values: its arguments.
            line: of the call, for all its primitives; None: each has its own.
        """
        given = [*map(self._constant, constants), *values]
        bound = dict(zip((*jaxpr.constvars, *jaxpr.invars), given, strict=True))

        def read(variable: Any) -> Value:
            if isinstance(variable, core.Literal):
                return self._constant(variable.val)
            value: Value = bound[variable]
            return value

        for equation in jaxpr.eqns:
            inputs = [read(variable) for variable in equation.invars]
            at = self._line(equation) if line is None else line
            results = self._apply(equation, inputs, at)
            bound.update(zip(equation.outvars, results, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def number(self, value: Value) -> int:
        """Return a value's number; a constant gets one."""
        return self._stored(value, value.shape) if isinstance(value, Known) else value

    def steps(self, outputs: Iterable[int]) -> tuple[Step, ...]:
        """Return the steps that these values need, in order.

        Raises:
            VerificationError: one has no meaning in exact arithmetic.
        """
        needed = set(outputs)
        kept: list[_Call] = []
        for call in reversed(self._calls):
            if needed.intersection(call.outputs):
                kept.append(call)
                needed.update(each for each in call.inputs if isinstance(each, int))
        return tuple(map(_step, reversed(kept)))

    # ---- one primitive -------------------------------------------------------------------------

    def _apply(self, equation: Any, inputs: list[Value], line: int | None) -> Sequence[Value]:
        primitive, params = equation.primitive.name, equation.params
        if primitive in _CALLS:
            inner = params[_CALLS[primitive]]
            jaxpr, constants = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            # What JAX's own functions execute is cached with the line of their first call.
            within = None if primitive in _OWN_LINES else line
            return self.run(jaxpr, constants, inputs, within)
        types = [(tuple(each.aval.shape), each.aval.dtype) for each in equation.outvars]
        if primitive in _SAME or (primitive == "convert_element_type" and _keeps(inputs, params)):
            return inputs
        if primitive == "select_n" and isinstance(inputs[0], Known):
            chosen = inputs[1 + int(inputs[0].value)]
            if not isinstance(chosen, Known):
                return [chosen]
        constants = [each for each in inputs if isinstance(each, Known)]
        if len(constants) == len(inputs):
            results = [evaluate(primitive, constants, params, shape) for shape, _ in types]
            if None not in results:
                return [each for each in results if each is not None]
        if primitive == "div" and self._is_root_over(inputs):
            primitive, inputs, params = "rsqrt_over", inputs[1:], {}
        if primitive == "draw" and inputs and not self._is_column(inputs[0]):
            raise VerificationError(f"line {line}: a join keeps a column that is not drawn")
        return self._added(primitive, params, inputs, types, line)

    def _is_column(self, value: Value) -> bool:
        """Whether a value is the column that is drawn, as it is."""
        call = self._makers.get(value) if isinstance(value, int) else None
        return call is not None and call.primitive == "draw" and call.params["law"][0] == "column"

    def _is_root_over(self, inputs: Sequence[Value]) -> bool:
        """Whether x^(-1/2) is divided by x, as in the derivative of ``rsqrt``."""
        over, under = inputs
        call = self._makers.get(over) if isinstance(over, int) else None
        return call is not None and call.primitive == "rsqrt" and call.inputs == (under,)

    def _added(
        self,
        primitive: str,
        params: Mapping[str, Any],
        inputs: Sequence[Value],
        types: Sequence[Type],
        line: int | None,
    ) -> tuple[int, ...]:
        outputs = tuple(next(self._numbers) for _ in types)
        call = _Call(primitive, params, tuple(inputs), outputs, tuple(types), line)
        self._calls.append(call)
        self._makers.update(dict.fromkeys(outputs, call))
        return outputs

    # ---- constants -------------------------------------------------------------------------------

    def _constant(self, values: Any) -> Value:
        if jnp.issubdtype(getattr(values, "dtype", np.float64), jax.dtypes.prng_key):
            return self._added("key", {}, (), [((), values.dtype)], None)[0]
        constant = known(values)
        return self._stored(np.asarray(values), np.shape(values)) if constant is None else constant

    def _stored(self, values: Known | Array, shape: tuple[int, ...]) -> int:
        """The number of an array of constants."""
        numbers = not isinstance(values, Known) and values.dtype != _MASKS
        dtype = _NUMBERS if isinstance(values, Known) or numbers else _MASKS
        key = (repr(values) if isinstance(values, Known) else values.tobytes(), shape)
        if key not in self._constants:
            added = self._added("constant", {"values": values}, (), [(shape, dtype)], None)
            self._constants[key] = added[0]
        return self._constants[key]

    def _line(self, equation: Any) -> int | None:
        """The innermost line of the model's source that called a primitive.

        It is rather that of a method than that of a function which many of them call.
        """
        traceback = equation.source_info.traceback
        codes, places = traceback.raw_frames() if traceback else ((), ())
        own = [
            (code, place)
            for code, place in zip(codes, places, strict=True)
            if code.co_filename == self.file
        ]
        methods = [(code, place) for code, place in own if _is_method(code)]
        return next((_line_at(code, place) for code, place in methods or own), None)


def _is_method(code: CodeType) -> bool:
    return code.co_argcount > 0 and code.co_varnames[0] == "self"


def _line_at(code: Any, place: int) -> int | None:
    """The line of an instruction of a code object."""
    return next((line for start, end, line in code.co_lines() if start <= place < end), None)


def _keeps(inputs: Sequence[Value], params: Mapping[str, Any]) -> bool:
    """Whether a conversion changes no number: to float64 of a mask or of what is float64."""
    return not isinstance(inputs[0], Known) and params["new_dtype"] == _NUMBERS


# ---- steps -------------------------------------------------------------------------------------


def _step(call: _Call) -> Step:
    """A primitive with its rule."""
    where = call.primitive if call.line is None else f"line {call.line}: {call.primitive}"
    for _, dtype in call.types:
        if jnp.issubdtype(dtype, np.number) and dtype != _NUMBERS and not _is_random(call):
            raise VerificationError(f"{where} computes in {dtype}, not in float64")
    if call.primitive not in RULES:
        reason = (
            "draws otherwise than by dropout and drop-path" if _is_random(call) else "is unknown"
        )
        raise VerificationError(f"{where} {reason}, it has no meaning in exact arithmetic")
    shapes = [shape for shape, _ in call.types]
    inputs = tuple(None if isinstance(each, int) else each for each in call.inputs)
    return Step(
        operator=call.primitive,
        attributes=_described(call, inputs),
        reads=tuple(each for each in call.inputs if isinstance(each, int)),
        writes=call.outputs,
        apply=_applied(RULES[call.primitive], inputs, call.params, shapes),
        line=call.line,
    )


def _is_random(call: _Call) -> bool:
    return call.primitive.startswith(("random_", "threefry", "key"))


def _described(call: _Call, inputs: Sequence[Known | None]) -> str:
    """A call's constants and parameters as text, the same in every process."""
    parts = [
        ", ".join("_" if each is None else f"{each!r}{list(each.shape)}" for each in inputs),
        *(
            f"{name}={_text(each)}"
            for name, each in sorted(call.params.items())
            if each is not None
        ),
        f"-> {[shape for shape, _ in call.types]}",
    ]
    text = "; ".join(parts)
    if re.search(r" at 0x[0-9a-f]+", text):
        raise VerificationError(f"{call.primitive} has a parameter that can't be compared: {text}")
    return text


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.size > _MOST_ELEMENTS:
            return f"{value.dtype}{value.shape} sha256 {sha256(value.tobytes()).hexdigest()}"
        return f"{value.dtype}{value.tolist()}"
    return repr(value)


def _applied(
    rule: Rule,
    inputs: Sequence[Known | None],
    params: Mapping[str, Any],
    shapes: Sequence[tuple[int, ...]],
) -> Apply:
    """A rule with the constants among its arguments; its results have these shapes."""

    def apply(context: Context, *arrays: Array) -> list[Array]:
        read = iter(arrays)
        arguments = [next(read) if each is None else each for each in inputs]
        written = rule(context, *arguments, **params)
        results = [written] if isinstance(written, np.ndarray | np.generic) else list(written)
        return [
            _of_shape(context, np.asarray(result), shape)
            for result, shape in zip(results, shapes, strict=True)
        ]

    return apply


def _of_shape(context: Context, result: Array, shape: tuple[int, ...]) -> Array:
    """A result in the shape that JAX has inferred: a scalar may stand for an array."""
    lead = context.exact.lead
    if result.shape[lead:] == shape:
        return result
    if result.ndim != lead:
        raise VerificationError(f"has a result of {result.shape[lead:]}, not {shape}")
    lanes = result.shape
    return np.broadcast_to(result.reshape(*lanes, *(1,) * len(shape)), (*lanes, *shape))
