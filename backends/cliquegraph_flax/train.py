"""Trains generated Flax models by optax, one program over all devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from numpy.typing import NDArray

from cliquegraph.checkpoints import load_weights, model_weights
from cliquegraph.compiler import Compilation
from cliquegraph.data import Batch, Images, prefetched
from cliquegraph.emit.backend import find_backend
from cliquegraph.emit.execute import load_source
from cliquegraph.errors import UsageError
from cliquegraph.training.engine import Classify
from cliquegraph.training.job import Precision
from cliquegraph.training.recipe import Recipe
from cliquegraph.training.scores import Scores, Totals
from cliquegraph.training.session import Session
from cliquegraph.weights.storage import Array
from cliquegraph_flax.devices import Devices, open_devices
from cliquegraph_flax.live import blank

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


class FlaxEngine:
    """Trains by optax; checkpoints by Orbax."""

    @property
    def versions(self) -> Mapping[str, str]:
        """JAX's, and those of the libraries on top of it."""
        return {name: version(name) for name in _LIBRARIES}

    def train(self, session: Session) -> None:
        """Train until the session is over."""
        job = session.job
        if job.precision == "float16":
            raise UsageError("float16 is not trained in Flax: say --precision bfloat16")
        devices = open_devices(job)
        job.share(devices.mesh.size)
        with jax.enable_x64(job.precision == "float64"):
            trainee = _Trainee(session, devices)
            while not session.over:
                for images, labels in trainee.batches():
                    trainee.step(images, labels)
                    if session.step_done(trainee):
                        return
                session.epoch_done(trainee, trainee.scores())

    def classifier(
        self, compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
    ) -> Classify:
        """Return a network that classifies images."""
        wide = precision == "float64"
        source = compilation.source(find_backend("flax"))
        with jax.enable_x64(wide):
            model = _model(source, compilation.network.python_class, precision)
            load_weights(model, compilation.network, tensors)
            model.eval()
            definition, state = nnx.split(model)

        def classify(images: Images) -> Array:
            with jax.enable_x64(wide):
                return np.asarray(_logits(definition, state, _channels_last(images)))

        return classify


ENGINE = FlaxEngine()

_STATE = "state"
"""Orbax's folder, in a checkpoint's."""


class _State(NamedTuple):
    """What a step changes."""

    parameters: Any
    statistics: Any
    momentum: Any


class _Trainee:
    """A model on its devices."""

    def __init__(self, session: Session, devices: Devices) -> None:
        job = session.job
        self._session, self._devices = session, devices
        self._counted: list[jax.Array] = []
        self._model = _model(session.source, session.class_name, job.precision)
        load_weights(self._model, job.compilation.network, session.initial())
        self._model.eval()
        self._evaluated: Any = nnx.graphdef(self._model)
        self._model.train()
        parts: Any = nnx.split(self._model, nnx.Param, nnx.BatchStat, ...)
        definition, parameters, statistics, rest = parts
        state = _State(parameters, statistics, _rule(job.recipe, 0).init(parameters))
        if session.restored is not None:
            state = _restored(session.restored / _STATE, state)
        self._state, self._rest = devices.replicate(state), devices.replicate(rest)
        self._step = jax.jit(
            partial(_step, definition, job.recipe),
            donate_argnums=0,
            out_shardings=devices.replicated,
        )

    # ---- a step and an evaluation ---------------------------------------------------------

    def batches(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield the rest of the epoch: (parts, images of this process's part, ...)."""
        session, own, parts = self._session, self._devices.own, self._session.job.accumulate

        def part_first(array: NDArray[Any]) -> NDArray[Any]:
            # A device's share is cut into parts, wherever its process begins.
            cut = array.reshape(own, parts, -1, *array.shape[1:]).swapaxes(0, 1)
            return np.ascontiguousarray(cut).reshape(parts, -1, *array.shape[1:])

        def arranged(batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
            return part_first(_channels_last(batch.images)), part_first(_narrow(batch.labels))

        found = session.batches(self._devices.rank, self._devices.ranks)
        return prefetched(map(arranged, found.epoch(session.epoch, session.step)))

    def step(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        """Take a step of SGD on a batch."""
        session, devices = self._session, self._devices
        noise = [session.noise(0, part) for part in range(session.job.accumulate)]
        words = np.array([(each >> 32, each & 0xFFFFFFFF) for each in noise], np.uint32)
        self._state, counted = self._step(
            self._state,
            self._rest,
            devices.divide(images, 1),
            devices.divide(labels, 1),
            words,
            np.asarray(session.rate, _WEIGHTS[session.job.precision]),
        )
        if self._counted:
            self._counted[-1].block_until_ready()  # no more than a step ahead of the devices
        self._counted.append(counted)

    def scores(self) -> dict[str, Scores]:
        """Evaluate every part."""
        session, devices = self._session, self._devices
        held = self._evaluated, (self._state.parameters, self._state.statistics, self._rest)
        found: dict[str, Scores] = {}
        for part in session.parts:
            found[part] = scores = Scores(len(session.job.data.classes))
            for batch in prefetched(
                session.evaluation(part, devices.rank, devices.ranks).epoch(0)
            ):
                logits = _logits(*held, devices.divide(_channels_last(batch.images)))
                scores.add(devices.rows(logits), batch.labels)
            scores.unpack(devices.summed(scores.packed()))
        return found

    # ---- what the session asks ------------------------------------------------------------

    def totals(self) -> Totals:
        """Return what was counted since the last call; a step counts over all devices."""
        counted, self._counted = jax.device_get(self._counted), []
        size = self._session.job.recipe.batch_size
        total = Totals()
        for loss, hits in counted:
            total += Totals(float(loss) * size, int(hits), size)
        return total

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return self._devices.any(flag)

    def save(self, folder: Path) -> None:
        """Write the state by Orbax; the first process has all of it."""
        if self._devices.rank:
            return
        with _checkpointer() as checkpointer:
            checkpointer.save((folder / _STATE).absolute(), _pure(jax.device_get(self._state)))
            checkpointer.wait_until_finished()

    def tensors(self) -> dict[str, Array]:
        """Return the canonical tensors."""
        nnx.update(self._model, *jax.device_get(self._state[:2]))
        return model_weights(self._model, self._session.job.compilation.network)


_WEIGHTS: dict[Precision, str] = {
    "float64": "float64",
    "float32": "float32",
    "bfloat16": "float32",
    "float16": "float32",
}
"""What parameters are kept in."""


def _model(source: str, class_name: str, precision: Precision) -> Any:
    module = load_source(source, f"cliquegraph_trained_{class_name}")
    create = getattr(module, class_name)
    types = {"dtype": precision, "param_dtype": _WEIGHTS[precision]}
    return blank(lambda: create(rngs=nnx.Rngs(0), **types))


def _rule(recipe: Recipe, rate: Any) -> optax.GradientTransformation:
    """Nesterov's SGD with weight decay on every parameter."""
    momentum = recipe.momentum or None
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.sgd(rate, momentum, nesterov=momentum is not None),
    )


def _step(
    definition: Any,
    recipe: Recipe,
    state: _State,
    rest: Any,
    images: jax.Array,
    labels: jax.Array,
    noise: jax.Array,
    rate: jax.Array,
) -> tuple[_State, jax.Array]:
    """One step: images (parts, batch, H, W, C); also the mean loss and the number of hits."""

    def part(held: Any, given: Any) -> Any:
        statistics, gradients = held
        images, labels, words = given
        differentiated = jax.value_and_grad(_loss, has_aux=True)
        (loss, (statistics, hits)), more = differentiated(
            state.parameters, definition, statistics, _seeded(rest, words), images, labels
        )
        gradients = jax.tree.map(lambda one, other: one + other / len(noise), gradients, more)
        return (statistics, gradients), (loss, hits)

    none = jax.tree.map(jnp.zeros_like, state.parameters)
    (statistics, gradients), (losses, hits) = jax.lax.scan(
        part, (state.statistics, none), (images, labels, noise)
    )
    changes, momentum = _rule(recipe, rate).update(gradients, state.momentum, state.parameters)
    parameters = optax.apply_updates(state.parameters, changes)
    counted = jnp.stack([losses.mean(), hits.sum().astype(losses.dtype)])
    return _State(parameters, statistics, momentum), counted


def _loss(
    parameters: Any,
    definition: Any,
    statistics: Any,
    rest: Any,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, Any]:
    model = nnx.merge(definition, parameters, statistics, rest, copy=True)
    logits = _wide(model(images))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (logits.argmax(1) == labels).sum()
    return losses.mean(), (nnx.state(model, nnx.BatchStat), hits)


@partial(jax.jit, static_argnums=0)
def _logits(definition: Any, states: Any, images: jax.Array) -> jax.Array:
    return _wide(nnx.merge(definition, *states, copy=True)(images))


def _seeded(rest: Any, words: jax.Array) -> Any:
    """Set what dropout draws from: a key for each stream, and nothing drawn yet."""
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    seeded = []
    for number, (path, variable) in enumerate(nnx.to_flat_state(rest)):
        if isinstance(variable, nnx.RngKey):
            variable = variable.replace(jax.random.fold_in(key, number))
        elif isinstance(variable, nnx.RngCount):
            variable = variable.replace(jnp.zeros_like(variable[...]))
        seeded.append((path, variable))
    return nnx.from_flat_state(seeded)


def _restored(folder: Path, like: _State) -> _State:
    with _checkpointer() as checkpointer:
        held = checkpointer.restore(folder.absolute(), _pure(jax.device_get(like)))
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(held))


def _pure(state: _State) -> Any:
    return jax.tree.leaves(state)


def _checkpointer() -> ocp.StandardCheckpointer:
    """Of one process alone, whatever the others do."""
    rank = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=rank, active_processes={rank}, barrier_sync_key_prefix=f"process_{rank}"
        )
    )


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _narrow(labels: NDArray[np.int64]) -> NDArray[np.int32]:
    return labels.astype(np.int32)


def _channels_last(images: Images) -> Images:
    return np.ascontiguousarray(np.transpose(images, (0, 2, 3, 1)))
