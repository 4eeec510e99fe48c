"""What trains networks in one framework, and how it is found.

An engine is an object behind the entry point group ``cliquegraph.engines``, named like the
backend whose models it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:  # what the protocol names is of rooms that find engines here
    from cliquegraph.compiler import Compilation
    from cliquegraph.data import Images
    from cliquegraph.ir.storage import Array
    from cliquegraph.training.job import Job, Precision
    from cliquegraph.training.session import Session

GROUP = "cliquegraph.engines"

Classify: TypeAlias = "Callable[[Images], Array]"
"""images (batch, C, H, W), float32, to logits (batch, classes)"""


@dataclass(frozen=True)
class Choice:
    """How an engine trains a network where nobody says it, by the figures of the device.

    Attributes:
        level: the -O level.
        why: the figures, to follow the level in a line.
        channels_last: the memory format of maps; None where the framework has one alone.
        cudnn_benchmark: whether cuDNN times its algorithms; None where there is no cuDNN.
        binding: no other level can train this, whatever the figures.
    """

    level: int
    why: str
    channels_last: bool | None = None
    cudnn_benchmark: bool | None = None
    binding: bool = False


class Engine(Protocol):
    """Trains and runs the models of one backend."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the libraries that a run's numbers depend on, by name."""

    def choose(self, job: Job) -> Choice:
        """Return how to train a job on the devices that are there, where it leaves that open."""

    def check(self, job: Job) -> None:
        """Take devices, before anything is written; every rank calls it.

        Raises:
            UsageError: devices or a precision that can't be had, or a batch that can't be divided.
        """

    def train(self, session: Session) -> None:
        """Train until the session is over.

        For each step it takes ``session.batches``, sets ``session.rate``, tells
        ``session.step_done``; after the last of an epoch it evaluates ``session.parts`` and
        tells ``session.epoch_done``. It returns when ``session.over``.
        """

    def classifier(
        self, compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
    ) -> Classify:
        """Return a network that classifies images, in evaluation, on the best device."""


def find_engine(name: str) -> Engine:
    """Return the engine of a backend.

    Raises:
        BackendError: there is none, or what it needs is not installed.
    """
    points = {point.name: point for point in entry_points_of(GROUP)}
    if name not in points:
        known = ", ".join(points) or "none"
        raise BackendError(f"nothing trains models of {name!r}; engines: {known}")
    try:
        engine: Engine = points[name].load()
    except ImportError as error:
        raise BackendError(
            f"training in {name} fails to load: {error}; pip install 'cliquegraph[{name}-train]'"
        ) from error
    return engine
