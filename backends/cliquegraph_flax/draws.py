"""Replaces the random choices of generated models by a primitive that names what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.extend import core

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.behavior import class_of_template, deviation
from cliquegraph.proof.program import Law
from cliquegraph.semantics.arithmetic import rational

DRAW: Any = core.Primitive("draw")
"""Has no implementation: programs with it are only traced."""
DRAW.def_abstract_eval(
    lambda *_, number, law, shape, dtype: jax.core.ShapedArray(shape, np.dtype(dtype))
)

_TEMPLATES = {
    "DropPath": "drop_path",
    "ImageDropPath": "image_drop_path",
    "JoinWeights": "join_weights",
    "ColumnJoinWeights": "column_join_weights",
    "DrawColumn": "draw_column",
}
"""The classes of a generated file that draw, and the templates that define them."""


class _Drawings:
    """Numbers the drawings of one trace."""

    def __init__(self) -> None:
        self._count = 0

    def draw(self, law: Law, shape: tuple[int, ...], dtype: Any, *column: jax.Array) -> jax.Array:
        """Return what is drawn by the next number."""
        number = self._count
        self._count += 1
        result: jax.Array = DRAW.bind(*column, number=number, law=law, shape=shape, dtype=dtype)
        return result

    def bernoulli(self, _: Any, p: Any = 0.5, shape: Any = None, **__: Any) -> jax.Array:
        """Return a mask of dropout, in place of ``jax.random.bernoulli``."""
        if not isinstance(p, float) or shape is None:
            raise VerificationError("a mask is drawn with a probability that is not a constant")
        return self.draw(("element", _rate(p)), tuple(shape), "bool")

    def member(self, module: Any, *arguments: jax.Array) -> jax.Array:
        """Return what a member of a generated model draws."""
        kind = type(module).__name__
        if kind == "DrawColumn":
            law = ("column", module.rate, module.columns)
            column: jax.Array = DRAW.bind(number=-1, law=law, shape=(module.columns,), dtype="bool")
            return column
        x = arguments[0]
        if kind == "JoinWeights":
            return self.draw(("join", module.rate, ()), (module.count,), x.dtype)
        if kind == "ColumnJoinWeights":
            law = ("join", module.rate, tuple(module.columns))
            return self.draw(law, (len(module.columns),), x.dtype, arguments[1])
        per_image = kind == "ImageDropPath"
        law = ("branch", _rate(module.survival), per_image)
        return self.draw(law, (x.shape[0] if per_image else 1, 1, 1, 1), x.dtype)


@contextmanager
def named_draws(model: nnx.Module) -> Iterator[None]:
    """Within the context, a model's random choices are ``draw``, in order of their numbers.

    Raises:
        VerificationError: a class that draws is not the one that we generate.
    """
    drawings = _Drawings()
    kinds: set[Any] = {type(module) for _, module in nnx.iter_modules(model)}
    ours = {kind: kind.__call__ for kind in kinds if kind.__name__ in _TEMPLATES}
    for kind in ours:
        _require_generated(kind)
    random: Any = jax.random
    bernoulli = random.bernoulli
    try:
        random.bernoulli = drawings.bernoulli
        for kind, call in ours.items():
            kind.__call__ = _drawn(drawings, call)
        yield
    finally:
        random.bernoulli = bernoulli
        for kind, call in ours.items():
            kind.__call__ = call


def _drawn(drawings: _Drawings, call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A method that draws by the primitive, in training."""

    def draw(module: Any, *arguments: jax.Array) -> jax.Array:
        if module.deterministic:
            return call(module, *arguments)
        return drawings.member(module, *arguments)

    return draw


def _rate(kept: float) -> Fraction:
    """How often something is dropped, of how often it is kept, which is the rounded 1 - rate."""
    return 1 - rational(kept)


def _require_generated(kind: Any) -> None:
    """Raise unless a class draws as that of our template does."""
    name = kind.__name__
    ours = class_of_template("cliquegraph_flax", f"{_TEMPLATES[name]}.py.jinja", name, _IMPORTS)
    function = deviation(kind, ours, ("__init__", "__call__"), ("jax", "jnp", "nnx"))
    if function is not None:
        code = getattr(function, "__code__", None)
        where = "" if code is None else f"line {code.co_firstlineno}: "
        raise VerificationError(f"{where}{name} draws otherwise than generated")


_IMPORTS = """\
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

"""
