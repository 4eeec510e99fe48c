"""Jitted steps of Flax models, and the memory that XLA reports for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.bundled.networks import Network

DEVICE = jax.default_backend()
ON_CPU = DEVICE == "cpu"
TYPES = {"fp32": jnp.float32, "tf32": jnp.float32, "bf16": jnp.bfloat16}
PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "default"}

MEMORY = {
    "temporary_bytes": "temp_size_in_bytes",
    "argument_bytes": "argument_size_in_bytes",
    "output_bytes": "output_size_in_bytes",
    "alias_bytes": "alias_size_in_bytes",
    "xla_peak_bytes": "peak_memory_in_bytes",
}
"""The fields of XLA's memory analysis, as far as this version has them."""


def precision(dtype: str) -> AbstractContextManager[object]:
    """The precision of matrix products when JAX traces; its default is TF32 on some devices."""
    return jax.default_matmul_precision(PRECISIONS[dtype])


def batch(network: Network, count: int) -> tuple[jax.Array, jax.Array]:
    """Draw images, channels last, and labels."""
    image = network.input
    shape = (count, image.height, image.width, image.channels)
    images = jax.random.normal(jax.random.key(0), shape)
    return images, jax.random.randint(jax.random.key(1), (count,), 0, network.classifier.classes)


class Program(NamedTuple):
    """A function compiled by XLA, with its arguments; a call waits for the result."""

    compiled: Any
    arguments: tuple[Any, ...]
    compile_seconds: float

    def __call__(self) -> None:
        jax.block_until_ready(self.compiled(*self.arguments))

    def seconds(self, repeats: int = 1) -> float:
        """Return the time of a call, the mean of ``repeats``."""
        start = time.perf_counter()
        for _ in range(repeats):
            self()
        return (time.perf_counter() - start) / repeats

    def memory(self) -> dict[str, int]:
        """Return the memory of the program that XLA reports."""
        analysis = self.compiled.memory_analysis()
        return {
            name: int(getattr(analysis, field))
            for name, field in MEMORY.items()
            if hasattr(analysis, field)
        }


# XLA's CPU compiler removes the barriers of jax.checkpoint before it merges common
# subexpressions, and so saves what should be recomputed (docs/optimiser.md).
KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def compilers(level: int) -> dict[str, dict[str, Any] | None]:
    """Return the sets of XLA options to try for a level, by suffix of its name."""
    return {"": None, " barriers": KEEP_BARRIERS} if ON_CPU and level == 2 else {"": None}


def program(
    function: Callable[..., Any], *arguments: Any, options: dict[str, Any] | None = None
) -> Program:
    """Trace a function, compile it with XLA's ``options``, and measure both."""
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
    """Compile forward, cross entropy and backward, and on request an SGD step.

    The state is an argument and a result; no argument is donated, so a call can be repeated.
    """
    model.train()
    definition, parameters, rest = nnx.split(model, nnx.Param, ...)
    rule = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(1e-6, 0.9, nesterov=True))

    def loss_of(parameters: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
        merged = nnx.merge(definition, parameters, rest, copy=True)  # of this trace, writable
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
