"""What the benchmarks run in JAX: the generated Flax models, and in which types."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from flax import nnx

import cliquegraph
from benchmarks.bundled.flax_steps import DEVICE as DEVICE
from benchmarks.bundled.flax_steps import ON_CPU as ON_CPU
from benchmarks.bundled.flax_steps import TYPES as TYPES
from benchmarks.bundled.flax_steps import Program as Program
from benchmarks.bundled.flax_steps import batch as batch
from benchmarks.bundled.flax_steps import compilers as compilers
from benchmarks.bundled.flax_steps import evaluation_program as evaluation_program
from benchmarks.bundled.flax_steps import precision as precision
from benchmarks.bundled.flax_steps import training_program as training_program
from benchmarks.harness import DTYPES
from cliquegraph import NetworkSpec
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import DEFAULT_LEVEL
from cliquegraph_flax.programs import KEEP_BARRIERS


def dtypes(arguments: argparse.Namespace) -> Sequence[str]:
    """Return the types that were asked for; by default all, or float32 on a CPU."""
    return arguments.dtypes or (DTYPES[:1] if ON_CPU else DTYPES)


def generated_model(
    network: NetworkSpec, level: int = DEFAULT_LEVEL, dtype: str = "fp32", **options: Any
) -> Any:
    """Compile a network at an -O level and return its model."""
    source = cliquegraph.compile(network, "flax", level=level, **options)
    module = load_source(source, f"generated_{network.name}_o{level}")
    return getattr(module, network.python_class)(rngs=nnx.Rngs(0), dtype=TYPES[dtype])
<<<<<<< HEAD


def batch(network: NetworkSpec, count: int) -> tuple[jax.Array, jax.Array]:
    """Draw images, channels last, and labels."""
    image = network.input
    shape = (count, image.height, image.width, image.channels)
    images = jax.random.normal(jax.random.key(0), shape)
    return images, jax.random.randint(jax.random.key(1), (count,), 0, network.classifier.classes)


class Program(NamedTuple):
    """A function compiled by XLA, with its arguments; calling it waits for what it returns."""

    compiled: Any
    arguments: tuple[Any, ...]
    compile_seconds: float

    def __call__(self) -> None:
        jax.block_until_ready(self.compiled(*self.arguments))

    def seconds(self, repeats: int = 1) -> float:
        """Return what a call takes, the mean of ``repeats`` in a row."""
        start = time.perf_counter()
        for _ in range(repeats):
            self()
        return (time.perf_counter() - start) / repeats

    def memory(self) -> dict[str, int]:
        """Return XLA's own account of the program's memory."""
        analysis = self.compiled.memory_analysis()
        return {
            name: int(getattr(analysis, field))
            for name, field in MEMORY.items()
            if hasattr(analysis, field)
        }


def compilers(level: int) -> dict[str, dict[str, Any] | None]:
    """Return XLA's options for a level, and what is added to its name."""
    return {"": None, " barriers": KEEP_BARRIERS} if ON_CPU and level == 2 else {"": None}


def program(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> Program:
    """Trace a function, have XLA compile it with its ``options``, and say how long both took."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=options)
    return Program(compiled, arguments, time.perf_counter() - start)


def training_program(
    model: Any,
    images: jax.Array,
    labels: jax.Array,
    sgd: bool = False,
    options: dict[str, Any] | None = None,
) -> Program:
    """Compile forward, cross entropy and backward, and on request a step of SGD.

    The state goes in and comes out; no argument is donated, so that a call can be repeated.
    """
    model.train()
    definition, parameters, rest = nnx.split(model, nnx.Param, ...)
    rule = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(1e-6, 0.9, nesterov=True))

    def loss_of(parameters: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
        merged = nnx.merge(definition, parameters, rest, copy=True)  # of this trace, to be written
        losses = optax.softmax_cross_entropy_with_integer_labels(merged(images), labels)
        return losses.mean(), nnx.state(merged, nnx.Not(nnx.Param))

    def gradient(parameters: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        (loss, rest), gradients = differentiate(parameters, rest, images, labels)
        return loss, rest, gradients

    if not sgd:
        return program(gradient, parameters, rest, images, labels, options=options)

    def step(
        parameters: Any, momentum: Any, rest: Any, images: jax.Array, labels: jax.Array
    ) -> Any:
        loss, rest, gradients = gradient(parameters, rest, images, labels)
        changes, momentum = rule.update(gradients, momentum, parameters)
        return loss, rest, momentum, optax.apply_updates(parameters, changes)

    state = (parameters, rule.init(parameters), rest)
    return program(step, *state, images, labels, options=options)


def evaluation_program(model: Any, images: jax.Array) -> Program:
    """Compile the forward pass in evaluation."""
    model.eval()
    definition, state = nnx.split(model)

    def forward(state: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(definition, state, copy=True)(images)

    return program(forward, state, images)
=======
>>>>>>> gpu
