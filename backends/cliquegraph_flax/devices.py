"""The devices of a training run: one program over all of them, in one or several processes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array
from cliquegraph.training.job import Job
from cliquegraph.training.launch import Launch, launched


@dataclass(frozen=True)
class Devices:
    """A mesh of one axis, ``data``, along which batches are sharded; the rest is replicated.

    Attributes:
        mesh: the devices, process by process.
        rank: the index of this process.
        ranks: the number of processes.
    """

    mesh: Mesh
    rank: int
    ranks: int

    @property
    def own(self) -> int:
        """The number of devices of this process."""
        return self.mesh.size // self.ranks

    @property
    def platform(self) -> str:
        """Their platform: ``cpu``, ``gpu``, ``tpu``."""
        return str(self.mesh.devices.flat[0].platform)

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of the state: replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())  # type: ignore[no-untyped-call]  # JAX leaves it untyped

    @property
    def divided(self) -> NamedSharding:
        """The sharding of a batch: its rows divided among the devices."""
        return NamedSharding(self.mesh, PartitionSpec("data"))  # type: ignore[no-untyped-call]  # JAX leaves it untyped

    def replicate(self, tree: Any) -> Any:
        """Replicate arrays that are equal in all processes on every device."""
        return jax.tree.map(self._replicate, tree)

    def divide(self, array: NDArray[Any]) -> jax.Array:
        """Put the rows of this process on its devices."""
        return _array(self.divided, array)

    def rows(self, array: jax.Array) -> Array:
        """Return this process's rows of what ``divide`` divided."""
        shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

    def summed(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the processes' vectors."""
        if self.ranks == 1:
            return vector
        with jax.enable_x64(True):
            total: NDArray[np.float64] = process_allgather(vector).sum(axis=0)
        return total

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return bool(self.summed(np.array([flag], np.float64))[0])

    def _replicate(self, array: Any) -> jax.Array:
        return _array(self.replicated, np.asarray(array))


def _array(sharding: NamedSharding, own: NDArray[Any]) -> jax.Array:
    """An array of all processes, from the part of each."""
    array: jax.Array = jax.make_array_from_process_local_data(  # type: ignore[no-untyped-call]  # JAX leaves it untyped
        sharding, own
    )
    return array


def open_devices(job: Job) -> Devices:
    """Start JAX, with the other processes of a launcher if there are any.

    Raises:
        UsageError: devices are missing, or the processes are not those requested.
    """
    launch = launched()
    if launch is None or launch.ranks == 1:
        if job.nodes > 1:
            raise UsageError(
                f"{job.nodes} nodes take a process on each of them: start it by torchrun or srun"
            )
        return _meshed(job.devices)
    if job.nodes not in (1, launch.nodes):
        raise UsageError(f"{job.nodes} nodes were requested, {launch.nodes} were launched")
    each = _each(job, launch)
    if not jax.distributed.is_initialized():
        _join(launch, each)
    return _meshed(each)


def _each(job: Job, launch: Launch) -> int | None:
    """The number of devices of a process, None for all that it sees."""
    if launch.per_node == 1:
        return job.devices
    each, rest = divmod(job.devices or launch.per_node, launch.per_node)
    if rest or not each:
        raise UsageError(
            f"{job.devices} devices can't be divided among {launch.per_node} processes of a node"
        )
    return each


def _join(launch: Launch, each: int | None) -> None:
    if launch.address is None:  # SLURM: JAX detects it
        jax.distributed.initialize()
        return
    local = None
    if launch.per_node > 1 and each:
        first = launch.rank % launch.per_node * each
        local = list(range(first, first + each))
    host, port = launch.address.rsplit(":", 1)
    # torchrun itself uses its port.
    jax.distributed.initialize(f"{host}:{int(port) + 1}", launch.ranks, launch.rank, local)


def _meshed(count: int | None) -> Devices:
    """All devices, or the first ``count`` of each process."""
    if count is not None:
        with suppress(RuntimeError):  # JAX has started: its devices may suffice
            jax.config.update("jax_num_cpu_devices", count)  # type: ignore[no-untyped-call]  # JAX leaves it untyped
    local = jax.local_devices()
    if count is not None and len(local) < count:
        raise UsageError(
            f"{count} devices were requested, JAX has started with {len(local)} "
            f"({local[0].platform})"
        )
    ranks = jax.process_count()
    chosen = [jax.local_devices(process)[:count] for process in range(ranks)]
    return Devices(Mesh(np.array(chosen).ravel(), ("data",)), jax.process_index(), ranks)
