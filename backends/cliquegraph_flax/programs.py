"""The programs of training, to be compiled: gradients of a part, an SGD step, logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from cliquegraph.training.recipe import Recipe
from cliquegraph_flax.loss import last_stage, mean_cross_entropy

KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""XLA's options for -O2 on a CPU. Otherwise it removes the barriers of jax.checkpoint before common
subexpression elimination, and saves what was to be recomputed (docs/optimiser.md)."""


def rule(recipe: Recipe, rate: Any) -> optax.GradientTransformation:
    """Return SGD with Nesterov momentum, with weight decay on every parameter."""
    momentum = recipe.momentum or None
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.sgd(rate, momentum, nesterov=momentum is not None),
    )


def gradient(
    recipe: Recipe,
    fixed: Any,
    definition: Any,
    streams: Any,
    parts: int,
    parameters: Any,
    statistics: Any,
    gradients: Any,
    images: jax.Array,
    labels: jax.Array,
    dropout_seed: jax.Array,
) -> tuple[Any, Any, jax.Array]:
    """Return updated statistics, the gradients plus those of a part, its mean loss and hits.

    Args:
        fixed: the filter of variables that are no trained parameters, ``statistics``.
    """
    (loss, (statistics, hits)), more = jax.value_and_grad(_loss, has_aux=True)(
        parameters,
        definition,
        statistics,
        _seed_streams(streams, dropout_seed),
        images,
        labels,
        recipe.stage_shares,
        fixed,
    )
    gradients = jax.tree.map(lambda one, other: one + other / parts, gradients, more)
    return statistics, gradients, jnp.stack([loss, hits.astype(loss.dtype)])


def update(
    recipe: Recipe, parameters: Any, momentum: Any, gradients: Any, rate: jax.Array
) -> tuple[Any, Any, Any]:
    """Return parameters and momentum after an SGD step, and zero gradients for the next."""
    changes, momentum = rule(recipe, rate).update(gradients, momentum, parameters)
    zeros = jax.tree.map(jnp.zeros_like, gradients)
    return optax.apply_updates(parameters, changes), momentum, zeros


def _loss(
    parameters: Any,
    definition: Any,
    statistics: Any,
    streams: Any,
    images: jax.Array,
    labels: jax.Array,
    shares: Sequence[float] | None,
    fixed: Any,
) -> tuple[jax.Array, Any]:
    model = nnx.merge(definition, parameters, statistics, streams, copy=True)
    logits = _wide(model(images))
    hits = (last_stage(logits).argmax(1) == labels).sum()
    return mean_cross_entropy(logits, labels, shares), (nnx.state(model, fixed), hits)


def logits(
    definition: Any, streams: Any, parameters: Any, statistics: Any, images: jax.Array
) -> jax.Array:
    """Return logits, float32 at least; of readouts over time, those of every stage."""
    return _wide(nnx.merge(definition, parameters, statistics, streams, copy=True)(images))


def last_logits(
    definition: Any, streams: Any, parameters: Any, statistics: Any, images: jax.Array
) -> jax.Array:
    """Return the logits of the last stage, float32 at least."""
    return last_stage(logits(definition, streams, parameters, statistics, images))


def _seed_streams(streams: Any, words: jax.Array) -> Any:
    """Return random streams for dropout, each with a key of its own and a count of 0."""
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    seeded = []
    for number, (path, variable) in enumerate(nnx.to_flat_state(streams)):
        if isinstance(variable, nnx.RngKey):
            variable = variable.replace(jax.random.fold_in(key, number))
        elif isinstance(variable, nnx.RngCount):
            variable = variable.replace(jnp.zeros_like(variable[...]))
        seeded.append((path, variable))
    return nnx.from_flat_state(seeded)


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
