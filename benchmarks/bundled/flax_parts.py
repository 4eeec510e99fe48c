"""Tests every -O level in Flax against -O0, and times jitted training steps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.bundled.compare import Outcome, compare
from benchmarks.bundled.flax_kernels import kernels_of, launched, traced
from benchmarks.bundled.flax_steps import (
    ON_CPU,
    TYPES,
    Program,
    batch,
    precision,
    program,
    training_program,
)
from benchmarks.bundled.networks import FOLDED, LEVELS, TINY, Array, BundledNetwork
from benchmarks.bundled.rounds import Json, interleave, rated, significant, summarise
from benchmarks.bundled.session import Session, Units, failure

TOLERANCE = 1e-3
"""The tolerance of float32: more than rounding, far less than one wrong slice."""

LAUNCHES, LARGE = "cliquenet_k36_t12", "cliquenet_s3"
# A dry run only tests that everything runs: optimized compilation would take longer.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def flax(session: Session) -> Units:
    """Return comparisons and training steps in turn, those that compile fast first."""
    first, *larger = session.sizes.batches
    if session.dry:
        return {**checked(session, TINY), **trained(session, TINY, first)}
    return {
        **checked(session, "quickstart"),
        **trained(session, LAUNCHES, first),
        **checked(session, "cliquenet_s0_small"),
        **trained(session, LARGE, first),
        **{
            unit: run
            for count in larger
            for name in (LAUNCHES, LARGE)
            for unit, run in trained(session, name, count).items()
        },
    }


def checked(session: Session, name: str) -> Units:
    network = session.bundle.networks[name]
    return {f"float32, {name}": partial(check, session, network)}


def trained(session: Session, name: str, count: int) -> Units:
    return {f"{name}, batch {count}": partial(train, session, name, count)}


def check(session: Session, network: BundledNetwork) -> None:
    """Compare every level with -O0, in training and in evaluation, in float32."""
    expected: dict[str, Outcome] = {}
    rows: dict[str, dict[str, Json]] = {"training": {}, "evaluation": {}}
    for variant in (*LEVELS, FOLDED):
        try:
            outcomes = outcomes_of(network, variant, session.sizes.checked, options_of(session))
        except Exception as error:  # noqa: BLE001  # a failure is a result too
            for row in rows.values():
                row[variant] = failure(error)
            continue
        expected = expected or outcomes
        for mode, outcome in outcomes.items():
            comparison = compare(outcome, expected[mode])
            ok = all(error <= TOLERANCE for error in comparison.errors.values())
            rows[mode][variant] = {"ok": ok, **comparison.described()}
    for mode, variants in rows.items():
        ok = all(row.get("ok", False) for row in variants.values())
        session.line(network=network.name, precision="float32", mode=mode, ok=ok, variants=variants)


def outcomes_of(
    network: BundledNetwork, variant: str, count: int, options: dict[str, Any] | None
) -> dict[str, Outcome]:
    """Run a variant with the bundle's weights, in evaluation and, unless folded, in training."""
    model = blank(network, variant, None)
    layout = network.layout("flax", variant)
    write(model, layout.to_model(network.weights(variant)))
    images, labels = network.batch(count)
    arguments = (
        jnp.asarray(np.transpose(images, (0, 2, 3, 1)), jnp.float32),
        jnp.asarray(labels, jnp.int32),
    )
    run = evaluate_folded if variant == FOLDED else train_and_evaluate
    model.train()
    trained, parameters, rest = nnx.split(model, nnx.Param, ...)
    model.eval()
    evaluated = nnx.graphdef(model)
    with precision("fp32"):
        compiled = program(
            partial(run, trained, evaluated), parameters, rest, *arguments, options=options
        )
    logits, loss, training = compiled.compiled(*compiled.arguments)
    outcomes = {"evaluation": Outcome(to_numpy(logits), float(loss))}
    if training is not None:
        logits, loss, gradients, moved = training
        canonical = [layout.to_canonical(arrays_of(state)) for state in (gradients, moved)]
        outcomes["training"] = Outcome(to_numpy(logits), float(loss), *canonical)
    return outcomes


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def evaluate_folded(
    _: Any, evaluated: Any, parameters: Any, rest: Any, images: jax.Array, labels: jax.Array
) -> Any:
    """Return logits and loss in evaluation."""
    logits = nnx.merge(evaluated, parameters, rest, copy=True)(images)
    return logits, cross_entropy(logits, labels), None


def train_and_evaluate(
    trained: Any, evaluated: Any, parameters: Any, rest: Any, images: jax.Array, labels: jax.Array
) -> Any:
    """Return the same, and logits, loss, gradients and running statistics of training."""

    def loss_of(parameters: Any) -> Any:
        model = nnx.merge(trained, parameters, rest, copy=True)
        logits = model(images)
        return cross_entropy(logits, labels), (logits, nnx.state(model, nnx.Not(nnx.Param)))

    (loss, (logits, moved)), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    evaluation = evaluate_folded(trained, evaluated, parameters, rest, images, labels)
    return *evaluation[:2], (logits, loss, gradients, moved)


def train(session: Session, name: str, count: int) -> None:
    """Write memory of each level's training step, then paired times, then what each launches.

    Launches come last: a profiler that fails, or slows the device, leaves the times alone.
    """
    network = session.bundle.networks[name].shrunk(session.sizes.largest_image)
    images, labels = batch(network, count)
    programs: dict[str, Program] = {}
    facts: dict[str, Json] = {}
    longest = 0.0
    for variant in LEVELS:
        if not session.allows(longest):
            session.line(variant=variant, batch=count, skipped="no time left")
            continue
        model = blank(network, variant, TYPES["bf16"])
        write(model, initial(model))
        try:
            with precision("bf16"):
                step = training_program(model, images, labels, options=options_of(session))
            step()
        except Exception as error:  # noqa: BLE001  # a failure is a result too
            session.line(variant=variant, batch=count, **failure(error))
            continue
        longest = max(longest, step.compile_seconds)
        programs[variant] = step
        compile_seconds = significant(step.compile_seconds, 3)
        facts[variant] = {"compile_seconds": compile_seconds, **step.memory()}
        session.line(variant=variant, batch=count, **facts[variant])
    if not programs:
        return
    seconds = max(step.seconds() for step in programs.values())
    repeats = max(1, min(20, round(session.sizes.seconds / seconds)))
    calls = {variant: partial(step.seconds, repeats) for variant, step in programs.items()}
    summary = summarise(interleave(calls, session.sizes.rounds), baseline=next(iter(programs)))
    session.line(network=name, batch=count, variants=rated(summary, count, facts))
    for variant, step in programs.items():
        write_launches(session, variant, count, step)


def write_launches(session: Session, variant: str, count: int, step: Program) -> None:
    """Write what a step launches: counted in the program, and on a GPU its kernels."""
    line = partial(session.line, variant=variant, batch=count)
    for measure in (count_launches,) if ON_CPU else (count_launches, profile_kernels):
        if not session.allows(0):
            line(skipped="no time left")
            return
        try:
            line(**measure(step))
        except Exception as error:  # noqa: BLE001  # a failure is a result too
            line(**failure(error))


def count_launches(step: Program) -> Json:
    launches = launched(step.compiled.as_text())
    return {"launches": launches.total(), "by_opcode": dict(launches.most_common())}


def profile_kernels(step: Program) -> Json:
    return kernels_of(traced(step)).described()


# ---- models --------------------------------------------------------------------------------


def blank(network: BundledNetwork, variant: str, dtype: Any) -> Any:
    """Build a variant with variables set to 0: drawing them would compile a program for each."""
    create = network.model_class("flax", variant)
    definition, state = nnx.split(nnx.eval_shape(lambda: create(rngs=nnx.Rngs(0), dtype=dtype)))

    def zeros(value: Any) -> jax.Array:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.zeros(value.shape, value.dtype)

    return nnx.merge(definition, jax.tree.map(zeros, state))


def initial(model: Any) -> dict[str, Array]:
    """Draw weights of the usual magnitude: some devices are faster with zeros."""
    rng = np.random.default_rng(0)
    drawn = {}
    for name, array in arrays_of(nnx.state(model, nnx.Not(nnx.RngState))).items():
        if array.ndim > 1:
            drawn[name] = rng.normal(0, np.sqrt(2 / np.prod(array.shape[:-1])), array.shape)
        elif name.endswith(("scale", "var")):
            drawn[name] = np.ones(array.shape)
    return drawn


def write(model: Any, tensors: Mapping[str, Array]) -> None:
    """Set variables by their dotted paths.

    Raises:
        AttributeError: the model has no such variable.
    """
    for name, array in tensors.items():
        variable = model
        for part in name.split("."):
            variable = getattr(variable, part)
        variable[...] = jnp.asarray(array, variable[...].dtype)


def arrays_of(state: Any) -> dict[str, Array]:
    """Return the arrays of a state by their dotted paths."""
    return {
        ".".join(map(str, path)): to_numpy(variable[...])
        for path, variable in nnx.to_flat_state(state)
    }


def to_numpy(array: jax.Array) -> Array:
    return np.asarray(array, np.float64)


def options_of(session: Session) -> dict[str, Any] | None:
    """Return XLA's options."""
    return QUICK if session.dry else None
