"""The processes of a training, from the environment variables of a launcher."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """The processes of one training, as started by torchrun or SLURM.

    Attributes:
        rank: this process, from 0.
        ranks: number of processes.
        per_node: number of processes on this machine.
        address: ``host:port`` of the first one, or None if the launcher does not provide it.
    """

    rank: int
    ranks: int
    per_node: int
    address: str | None

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return max(1, self.ranks // self.per_node)


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Return the launcher's settings, or None if there is no launcher."""
    if "WORLD_SIZE" in environment and "RANK" in environment:
        ranks = int(environment["WORLD_SIZE"])
        per_node = int(environment.get("LOCAL_WORLD_SIZE", ranks))
        host, port = (environment.get(name) for name in ("MASTER_ADDR", "MASTER_PORT"))
        address = f"{host}:{port}" if host and port else None
        return Launch(int(environment["RANK"]), ranks, per_node, address)
    # A shell inside an allocation has its own task but no step.
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        ranks = int(environment["SLURM_NTASKS"])
        per_node = ranks // max(1, int(environment.get("SLURM_NNODES", "1")))
        return Launch(int(environment["SLURM_PROCID"]), ranks, per_node, None)
    return None


def is_writer(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process writes the run's files."""
    launch = launched(environment)
    if launch is not None:
        return launch.rank == 0
    # Lightning starts the other processes of a machine itself and sets these variables.
    return all(environment.get(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))
