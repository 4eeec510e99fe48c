"""The protocol of a training engine for one framework, and its discovery.

An engine is an object in the entry point group ``cliquegraph.engines``, named like the
backend whose models it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:  # these modules import this one
    from cliquegraph.compiler import Compilation
    from cliquegraph.data import Images
    from cliquegraph.ir.storage import Array
    from cliquegraph.training.job import Job, Precision
    from cliquegraph.training.session import Session

GROUP = "cliquegraph.engines"

Classify: TypeAlias = "Callable[[Images], Array]"
"""images (batch, C, H, W), float32, to logits (batch, classes), or (stages, batch, classes)"""


@dataclass(frozen=True)
class Choice:
    """How an engine trains a network by default, based on measurements of the device.

    Attributes:
        level: the -O level.
        why: the measurements, to follow the level in a message.
        channels_last: the memory format of maps; None if the framework has only one.
        cudnn_benchmark: whether cuDNN times its algorithms; None without cuDNN.
        binding: no other level can train this network, whatever the measurements.
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
        """Versions of the libraries that a run's results depend on, by name."""

    def choose(self, job: Job) -> Choice:
        """Return the defaults for what a job leaves open, on the available devices."""

    def check(self, job: Job) -> None:
        """Acquire devices, before anything is written; every rank calls it.

        Raises:
            BackendError: what it trains with is not installed.
            UsageError: unavailable devices or precision, or a batch that can't be divided.
        """

    def train(self, session: Session) -> None:
        """Train until the session is over; ``check`` has been called.

        For each step it takes a batch of ``session.batches``, sets ``session.rate`` and calls
        ``session.step_done``; after the last step of an epoch it evaluates ``session.parts`` and
        calls ``session.epoch_done``. It returns when ``session.over``.

        Of a readout over time, the loss of a step is the mean of the stages' by the recipe's
        ``stage_shares``; hits and scores are those of the last stage.
        """

    def classifier(
        self, compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
    ) -> Classify:
        """Return a function that classifies images, in evaluation, on the best device.

        It needs the framework alone, not what ``train`` does.

        Raises:
            BackendError: the framework is not installed.
        """


def find_engine(name: str) -> Engine:
    """Return the engine of a backend.

    Raises:
        BackendError: there is none, or its package can't be imported.
    """
    points = {point.name: point for point in entry_points_of(GROUP)}
    if name not in points:
        known = ", ".join(points) or "none"
        raise BackendError(f"there is no training engine for {name!r}; installed: {known}")
    try:
        engine: Engine = points[name].load()
    except ImportError as error:
        raise BackendError(
            f"training in {name} ({points[name].value}) fails to load: {error}"
        ) from error
    return engine


def default_engine(preferred: str) -> str:
    """Return the engine to use if none is named: the first whose framework is installed.

    Args:
        preferred: the first of them; the others follow in alphabetical order. It is returned if
            no framework is installed, since its error names what to install.
    """
    names = sorted(point.name for point in entry_points_of(GROUP))
    for name in sorted(names, key=lambda each: each != preferred):
        try:
            if find_backend(name).missing() is None:
                return name
        except BackendError:  # a broken package of someone else
            continue
    return preferred
