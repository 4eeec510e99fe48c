"""Trains generated Flax models with optax, by one program over all devices."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from numpy.typing import NDArray

from cliquegraph.data import Batch, prefetched
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array
from cliquegraph.training.job import Job
from cliquegraph.training.scores import Scores, Totals
from cliquegraph.training.session import Session
from cliquegraph.weights import load_weights, model_weights
from cliquegraph_flax.classify import WEIGHTS, channels_last, model_of
from cliquegraph_flax.devices import Devices, open_devices
from cliquegraph_flax.programs import KEEP_BARRIERS, gradient, last_logits, rule, update


class FlaxTrainer:
    """Trains with optax; writes checkpoints with Orbax."""

    def check(self, job: Job) -> None:
        """Open the devices; a batch must be divisible among all of them."""
        if job.precision == "float16":
            raise UsageError("Flax does not train in float16: use --precision bfloat16")
        if job.channels_last is not None:
            raise UsageError(
                "Flax's maps are channels-last already: leave out --[no-]channels-last"
            )
        if job.cudnn_benchmark is not None:
            raise UsageError(
                "XLA chooses cuDNN's algorithms itself: leave out --[no-]cudnn-benchmark"
            )
        if job.cuda_graph:
            raise UsageError(
                "--cuda-graph is for PyTorch: leave it out; Flax's step is one compiled program "
                "already, of which XLA makes CUDA graphs where they help"
            )
        job.require_separate_parts()
        job.share(open_devices(job).mesh.size)

    def train(self, session: Session) -> None:
        """Train until the session is over."""
        job = session.job
        with jax.enable_x64(job.precision == "float64"):
            trainee = _Trainee(session, open_devices(job))
            while not session.over:
                for parts in trainee.batches():
                    trainee.step(parts)
                    if session.step_done(trainee):
                        return
                session.epoch_done(trainee, trainee.scores())


TRAINER = FlaxTrainer()

_STATE = "state"
"""Orbax's folder, in a checkpoint's."""
_SLACK = 1 << 18
"""An upper bound of the bytes that Orbax writes besides the arrays."""


class _State(NamedTuple):
    """The state that training changes."""

    parameters: Any
    statistics: Any
    """with the parameters of frozen parts"""
    momentum: Any


class _Part(NamedTuple):
    """The share of a process in one accumulated part of a batch."""

    images: NDArray[np.float32]
    """(batch, H, W, C)"""
    labels: NDArray[np.int32]


class _Trainee:
    """A model on its devices."""

    def __init__(self, session: Session, devices: Devices) -> None:
        job = session.job
        self._session, self._devices = session, devices
        self._counted: list[jax.Array] = []
        self._model = model_of(session.source, session.class_name, job.precision)
        load_weights(self._model, job.compilation.network, session.initial())
        self._model.eval()
        evaluated = nnx.graphdef(self._model)
        self._model.train()
        for part in job.freeze:
            getattr(self._model, part).eval()
        trained = nnx.All(nnx.Param, *(nnx.Not(_part(each)) for each in job.freeze))
        fixed = nnx.Not(nnx.Any(trained, nnx.RngState))
        parts: Any = nnx.split(self._model, trained, fixed, nnx.RngState)
        definition, parameters, statistics, streams = parts
        state = _State(parameters, statistics, rule(job.recipe, 0).init(parameters))
        if session.restored is not None:
            state = _restored(session.restored / _STATE, state)
        self._state: _State = devices.replicate(state)
        self._gradients = devices.replicate(jax.tree.map(np.zeros_like, parameters))
        # Compiled once: everything that varies between steps is an argument, the rate too.
        compiled = partial(jax.jit, out_shardings=devices.replicated)
        self._update = compiled(partial(update, job.recipe), donate_argnums=(0, 1, 2))
        needs_barriers = job.compilation.level == 2 and devices.platform == "cpu"
        self._gradient = compiled(
            partial(gradient, job.recipe, fixed, definition, streams, job.accumulate),
            donate_argnums=(1, 2),
            compiler_options=KEEP_BARRIERS if needs_barriers else None,
        )
        self._logits = jax.jit(
            partial(last_logits, evaluated, streams), out_shardings=devices.divided
        )

    # ---- steps and evaluation ---------------------------------------------------------

    def batches(self) -> Iterator[list[_Part]]:
        """Yield the batches of the rest of the epoch, each in its parts."""
        devices, session = self._devices, self._session
        batches = session.batches(devices.rank, devices.ranks).epoch(session.epoch, session.step)
        return prefetched(map(self._parts, batches))

    def step(self, parts: list[_Part]) -> None:
        """Take an SGD step on a batch."""
        session, devices = self._session, self._devices
        parameters, statistics, momentum = self._state
        for number, part in enumerate(parts):
            dropout_seed = session.noise(0, number)  # one for all devices, which run one program
            statistics, self._gradients, counted = self._gradient(
                parameters,
                statistics,
                self._gradients,
                devices.divide(part.images),
                devices.divide(part.labels),
                np.array([dropout_seed >> 32, dropout_seed & 0xFFFFFFFF], np.uint32),
            )
            self._counted.append(counted)
        rate = np.asarray(session.rate, WEIGHTS[session.job.precision])
        parameters, momentum, self._gradients = self._update(
            parameters, momentum, self._gradients, rate
        )
        self._state = _State(parameters, statistics, momentum)
        # Transfers must not run far ahead of the devices.
        if len(self._counted) > 1:
            self._counted[-2].block_until_ready()

    def scores(self) -> dict[str, Scores]:
        """Evaluate every part of the data."""
        session, devices = self._session, self._devices
        weights = self._state.parameters, self._state.statistics
        by_part: dict[str, Scores] = {}
        for part in session.parts:
            by_part[part] = scores = Scores(len(session.job.data.classes))
            batches = session.evaluation(part, devices.rank, devices.ranks)
            for batch in prefetched(batches.epoch(0)):
                images = devices.divide(channels_last(batch.images))
                scores.add(devices.rows(self._logits(*weights, images)), batch.labels)
            scores.unpack(devices.summed(scores.packed()))
        return by_part

    def _parts(self, batch: Batch) -> list[_Part]:
        """Divide a batch device by device, so that the number of processes makes no difference."""
        own, count = self._devices.own, self._session.job.accumulate
        images, labels = channels_last(batch.images), batch.labels.astype(np.int32)
        images = images.reshape(own, count, -1, *images.shape[1:])
        labels = labels.reshape(own, count, -1)
        return [
            _Part(np.concatenate(images[:, number]), np.concatenate(labels[:, number]))
            for number in range(count)
        ]

    # ---- called by the session ------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether there is only one process."""
        return self._devices.ranks == 1

    def totals(self) -> Totals:
        """Return what was counted since the last call; a step counts over all devices."""
        counted, self._counted = jax.device_get(self._counted), []
        size = self._session.job.share(1)
        total = Totals()
        for loss, hits in counted:
            total += Totals(float(loss) * size, int(hits), size)
        return total

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return self._devices.any(flag)

    def save(self, folder: Path) -> None:
        """Write the state with Orbax; the first process has all of it."""
        if self._devices.rank:
            return
        state = jax.device_get(self._state)
        _require_room(folder, sum(array.nbytes for array in jax.tree.leaves(state)))
        with _checkpointer() as checkpointer:
            checkpointer.save((folder / _STATE).absolute(), state)
            checkpointer.wait_until_finished()

    def tensors(self) -> dict[str, Array]:
        """Return the canonical tensors."""
        nnx.update(self._model, *jax.device_get(self._state[:2]))
        return model_weights(self._model, self._session.job.compilation.network)


def _part(name: str) -> Callable[[Any, Any], bool]:
    """A filter of the variables of one part of a model."""
    return lambda path, _: path[0] == name


def _require_room(folder: Path, size: int) -> None:
    """Check the free space first: errors in Orbax's writer threads print tracebacks."""
    if shutil.disk_usage(folder).free < size + size // 4 + _SLACK:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _restored(folder: Path, like: _State) -> _State:
    with _checkpointer() as checkpointer:
        state: _State = checkpointer.restore(folder.absolute(), jax.device_get(like))
    return state


def _checkpointer() -> ocp.StandardCheckpointer:
    """A checkpointer for this process alone, independent of the others."""
    rank = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=rank, active_processes={rank}, barrier_sync_key_prefix=f"process_{rank}"
        )
    )
