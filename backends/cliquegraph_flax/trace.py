"""Traces generated Flax models, to evaluate what they execute exactly."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.execute import load_source
from cliquegraph.proof.program import Program
from cliquegraph_flax.draws import named_draws
from cliquegraph_flax.jaxprs import Flattened
from cliquegraph_flax.live import LiveModel, blank

_IMAGES, _COTANGENT = "images", "cotangent"


class FlaxTracer:
    """A model in float64, of which each call can be traced.

    Args:
        model: the model, of any types: what it computes is traced in float64.
    """

    def __init__(self, model: nnx.Module) -> None:
        self._model = model
        self._logits: dict[tuple[int, ...], tuple[int, ...]] = {}

    @classmethod
    def of_source(cls, source: str, class_name: str, name: str) -> FlaxTracer:
        """Load a generated source, and create its model with tensors of zeros."""
        module = load_source(source, f"cliquegraph_generated_{name}")
        create = getattr(module, class_name)
        with jax.enable_x64(True):
            types = {"dtype": "float64", "param_dtype": "float64"}
            return cls(blank(lambda: create(rngs=nnx.Rngs(0), **types)))

    @property
    def model(self) -> nnx.Module:
        """The model."""
        return self._model

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of its parameters and running statistics, by their names."""
        infos = LiveModel(self._model).infos
        return {name: tuple(info.shape) for name, info in infos.items()}

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Which of them are trained."""
        return frozenset(_names(nnx.state(self._model, nnx.Param)))

    chooses = False

    def trace(
        self,
        shape: tuple[int, int, int, int],
        mode: Literal["training", "evaluation"],
        *,
        gradients: bool = False,
        activations: bool = False,
        derives: bool = False,
    ) -> Program:
        """Trace one call of the model, as ``Tracer`` describes it."""
        gradients = gradients and not activations
        call, closed = self._traced(shape, mode, gradients, activations)
        return self._program(call, closed, gradients)

    def _traced(
        self, shape: tuple[int, int, int, int], mode: str, gradients: bool, activations: bool
    ) -> tuple[_Call, Any]:
        """A function of the model and its jaxpr."""
        batch, channels, height, width = shape
        images = (batch, height, width, channels)
        cotangent = self._logits_of(images) if gradients else ()
        _set_mode(self._model, mode == "training")
        call = _Call(self._model, gradients=gradients, activations=activations)
        random = named_draws(self._model) if mode == "training" else nullcontext()
        with jax.enable_x64(True), random:
            try:
                closed = jax.make_jaxpr(call.run)(
                    call.parameters, call.rest, _float64(images), _float64(cotangent)
                )
            except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as e:
                line = _line_of(e, type(self._model).__call__.__code__.co_filename)
                raise VerificationError(
                    f"{line}what the model computes depends on the values of arrays"
                ) from None
        return call, closed

    def _program(self, call: _Call, closed: Any, gradients: bool) -> Program:
        names = [*call.names, _IMAGES, _COTANGENT]
        file = type(self._model).__call__.__code__.co_filename
        flat = Flattened(file, len(names))
        values = flat.run(closed.jaxpr, closed.consts, range(len(names)))
        results = dict(zip(call.results, values, strict=True))
        inputs = {name: number for number, name in enumerate(names) if name is not None}
        for name in self.parameters:
            if results.pop(("tensor", name)) != inputs[name]:
                raise VerificationError(f"a call of the model changes its parameter {name}")
        numbers = {result: flat.number(value) for result, value in results.items()}

        def of_kind(kind: str) -> dict[str, int]:
            return {name: number for (each, name), number in numbers.items() if each == kind}

        program = Program(
            steps=flat.steps(numbers.values()),
            images=inputs.pop(_IMAGES),
            cotangent=inputs.pop(_COTANGENT) if gradients else None,
            tensors={name: inputs[name] for name in self.shapes},
            counters={},
            logits=numbers["logits", ""],
            features=tuple(of_kind("feature").values()),
            gradients=dict(of_kind("gradient")),
            after=of_kind("tensor"),
            activations=of_kind("activation"),
            channels_last=True,
        )
        _require_given(program)
        return program

    def _logits_of(self, images: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the logits of images."""
        if images not in self._logits:
            _set_mode(self._model, False)
            definition, state = nnx.split(self._model)

            def call(state: Any, images: jax.Array) -> jax.Array:
                logits: jax.Array = _merged(definition, state)(images)
                return logits

            with jax.enable_x64(True):
                self._logits[images] = jax.eval_shape(call, state, _float64(images)).shape
        return self._logits[images]


class _Call:
    """A function of a model's tensors, which JAX can trace, and the names of all its results.

    Attributes:
        parameters: the leaves of the parameters, as types.
        rest: those of other variables.
        names: of all these; None for the state of random streams.
        results: (kind, name) of each result, once the function has been called.
    """

    def __init__(self, model: nnx.Module, *, gradients: bool, activations: bool) -> None:
        parts: Any = nnx.split(model, nnx.Param, ...)
        self._definition, parameters, rest = parts
        self.parameters, self._parameters = _types(parameters)
        self.rest, self._rest = _types(rest)
        tensors = set(LiveModel(model).infos)
        self.names = [
            name if name in tensors else None for name in (*_names(parameters), *_names(rest))
        ]
        self._gradients, self._activations = gradients, activations
        self.results: list[tuple[str, str]] = []

    def run(
        self, parameters: Sequence[Any], rest: Sequence[Any], images: Any, cotangent: Any
    ) -> list[Any]:
        """Return all results, in the order of ``results``."""

        def product(parameters: Sequence[Any]) -> tuple[Any, dict[tuple[str, str], Any]]:
            results = self._called(parameters, rest, images)
            return jnp.sum(results["logits", ""] * cotangent), results

        if self._gradients:
            slopes, results = jax.grad(product, has_aux=True)(parameters)
            for name, slope in zip(self.names[: len(slopes)], slopes, strict=True):
                results["gradient", str(name)] = slope
        else:
            results = self._called(parameters, rest, images)
        self.results = list(results)
        return [results[result] for result in self.results]

    def _called(
        self, parameters: Sequence[Any], rest: Sequence[Any], images: Any
    ) -> dict[tuple[str, str], Any]:
        model = _merged(
            self._definition,
            jax.tree.unflatten(self._parameters, parameters),
            jax.tree.unflatten(self._rest, rest),
        )
        results: dict[tuple[str, str], Any] = {}
        if self._activations:
            # The forward pass would move running statistics again, so it runs on a copy.
            versions = nnx.clone(model).activations(images)
            results |= {("activation", name): maps for name, maps in versions.items()}
        gathered = _Kept(model, "gather")
        features = _Kept(model, "forward_features")
        results["logits", ""] = model(images)
        state = nnx.state(model, nnx.Not(nnx.RngState))
        for each in (gathered, features):
            each.complete = True
        if gathered.results:  # the features as lists; of what is kept, not of another pass
            model.forward_features(images)
        for at, maps in enumerate(features.results[0] if features.results else ()):
            results["feature", str(at)] = maps
        results |= {
            ("tensor", name): leaf
            for name, leaf in zip(_names(state), jax.tree.leaves(state), strict=True)
        }
        return results


def _line_of(error: Exception, file: str) -> str:
    """The innermost line of a file that led to an error, as a prefix of a message."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    return f"line {frames[-1].lineno}: " if frames else ""


def _set_mode(model: Any, training: bool) -> None:
    if training:
        model.train()
    else:
        model.eval()


def _merged(definition: Any, *states: Any) -> Any:
    """A copy of a model that computes in float64."""
    model = nnx.merge(definition, *states, copy=True)
    modules: Any = nnx.iter_modules(model)
    for _, module in modules:
        if getattr(module, "dtype", None) is not None:
            module.dtype = jnp.float64
    return model


class _Kept:
    """The result that a method of a model returns in one pass.

    Args:
        model: a copy for this pass alone, of which the method is replaced.
        name: of the method, which it need not have.

    Attributes:
        results: the result, once it has been called.
        complete: whether the pass is over; then the method returns this result again.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.results: list[Any] = []
        self.complete = False
        self._name = name
        self._compute: Callable[..., Any] | None = getattr(model, name, None)
        if self._compute is not None:
            # As no part of the copy: not by the ``__setattr__`` of modules.
            object.__setattr__(model, name, self._call)

    def _call(self, *arguments: Any, **named: Any) -> Any:
        assert self._compute is not None  # noqa: S101  # it replaces nothing else
        if self.results and not self.complete:
            raise VerificationError(
                f"{self._name} is called twice in one forward pass: which features are those of "
                "the blocks?"
            )
        if not self.results:
            self.results.append(self._compute(*arguments, **named))
        return self.results[0]


def _types(state: Any) -> tuple[list[Any], Any]:
    """The types of a state's leaves, of floats float64, and its structure."""
    leaves, structure = jax.tree.flatten(state)
    types = [
        _float64(leaf.shape)
        if jnp.issubdtype(leaf.dtype, np.floating)
        else _type(leaf.shape, leaf.dtype)
        for leaf in leaves
    ]
    return types, structure


def _float64(shape: Sequence[int]) -> Any:
    return _type(shape, np.float64)


def _type(shape: Sequence[int], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(tuple(shape), dtype)  # type: ignore[no-untyped-call]  # JAX's


def _names(state: Any) -> list[str]:
    """The names of a state's leaves, in the order of the leaves."""
    return [
        ".".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
        for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]
    ]


def _require_given(program: Program) -> None:
    """Raise if a program reads the state of random streams."""
    given = {program.images, program.cotangent, *program.tensors.values()}
    given.update(number for step in program.steps for number in step.writes)
    for step in program.steps:
        if not given.issuperset(step.reads):
            where = "" if step.line is None else f"line {step.line}: "
            raise VerificationError(
                f"{where}{step.operator} computes with the state of random keys"
            )
