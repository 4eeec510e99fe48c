"""What uses Flax models."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from cliquegraph import interpret
from tests.clients.client import EVERY, TRAINED, Client, Sample, Values
from tests.function import images_for


def model_of(sample: Sample) -> Any:
    return sample.load(sample.create(rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64))


def evaluated(sample: Sample) -> Any:
    model = model_of(sample)
    model.eval()
    return model


def images_of(sample: Sample) -> Array:
    return jnp.asarray(np.transpose(images_for(sample.graph), (0, 2, 3, 1)))


def logits(array: Array) -> Values:
    return {"logits": np.asarray(array)}


def reads_integers(sample: Sample) -> Values:
    model = sample.load(sample.create(rngs=nnx.Rngs(0), param_dtype=jnp.float64))
    model.eval()
    x = np.round(10 * np.abs(images_for(sample.graph)))
    expected = interpret(sample.graph, sample.tensors, x).logits
    images = jnp.asarray(np.transpose(x, (0, 2, 3, 1)), jnp.uint8)
    found = jax.jit(lambda x: model(x))(images)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    return logits(found)


def tabulates(sample: Sample) -> Values:
    model, x = model_of(sample), images_of(sample)
    assert "Total Parameters" in nnx.tabulate(model, x)
    # Where it fails, Flax leaves the classes' methods replaced.
    assert nnx.eval_shape(lambda model, x: model(x), model, x).shape[0] == len(x)
    return {}


def views(sample: Sample) -> Values:
    model = nnx.view(model_of(sample), use_running_average=True)
    return logits(jax.jit(lambda x: model(x))(images_of(sample)))


def differentiates_forwards(sample: Sample) -> Values:
    model, x = evaluated(sample), images_of(sample)
    tangents = jax.jit(lambda x: jax.jvp(lambda x: model(x), (x,), (jnp.ones_like(x),))[1])
    return logits(tangents(x))


def differentiates_per_sample(sample: Sample) -> Values:
    model = evaluated(sample)

    def loss(x: Array) -> Array:
        return (model(x[None]) ** 2).sum()

    return logits(jax.jit(jax.vmap(jax.grad(loss)))(images_of(sample)))


def exports(sample: Sample) -> Values:
    model, x = evaluated(sample), images_of(sample)
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(lambda x: model(x)))(shape)
    return logits(exported.call(x))


CLIENTS = (
    Client("uint8 images", reads_integers, EVERY),
    Client("`nnx.tabulate`", tabulates, EVERY),
    Client("`nnx.view(model, use_running_average=True)`", views, TRAINED),
    Client("`jax.jvp`", differentiates_forwards, EVERY),
    Client("per-sample gradients: `jax.vmap(jax.grad(…))`", differentiates_per_sample, EVERY),
    Client("`jax.export`, any batch size", exports, EVERY),
)
