"""The loss of generated models; of readouts over time, the weighted mean of the stages' losses."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax


def mean_cross_entropy(
    logits: jax.Array, labels: jax.Array, shares: Sequence[float] | None = None
) -> jax.Array:
    """Return the mean cross entropy of a batch.

    Args:
        logits: (batch, classes), or (stages, batch, classes).
        labels: (batch,).
        shares: the share of each stage; default: equal ones.
    """
    every = jnp.broadcast_to(labels, logits.shape[:-1])
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, every)
    if shares is None:
        return losses.mean()
    return losses.mean(-1) @ jnp.asarray(shares, losses.dtype)


def last_stage(logits: jax.Array) -> jax.Array:
    """Return the logits of the last stage, (batch, classes)."""
    return logits if logits.ndim == 2 else logits[-1]
