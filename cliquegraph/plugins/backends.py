"""The protocol of a backend, and its discovery.

A backend is an object in the entry point group ``cliquegraph.backends``. The compiler knows none
by name: ours are discovered like those of other packages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Protocol

from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:  # these modules import this one
    from cliquegraph.emit.view import ModelView
    from cliquegraph.ir.graph import Graph
    from cliquegraph.ir.storage import Array, Labels
    from cliquegraph.proof.program import Tracer
    from cliquegraph.weights.layout import Layout
    from cliquegraph.weights.source import LiveTensors

GROUP = "cliquegraph.backends"


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with Nesterov momentum, as the paper trains (section 4.1)."""

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4  # on all parameters


@dataclass(frozen=True)
class Outputs:
    """The results of a forward pass, in a layout that is independent of the framework.

    Attributes:
        logits: (batch, classes), or (stages, batch, classes) of a readout over time.
        features: (batch, channels, height, width) for each block.
    """

    logits: Array
    features: tuple[Array, ...]


class Executor(Protocol):
    """A generated model in its framework, with dropout switched off; ``verify`` runs it.

    Images are (batch, channels, height, width). Tensors are canonical, by name.
    """

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter and running statistic, and reset the optimizer's state."""

    def tensors(self) -> dict[str, Array]:
        """Return every parameter and running statistic."""

    def set_masks(self, masks: Sequence[Array]) -> None:
        """Set what drop-path draws in training; initially nothing is dropped.

        One array for each ``Keep`` and ``JoinWeights`` of the graph, in order: the factors of a
        branch, (1 or batch, 1, 1, 1), by which in one dropped per batch the updates of running
        statistics are scaled too; or the weights of a join's operands, (operands,).
        """

    def round_at_random(self, seed: int) -> None:
        """From now on, change the last digit of each result of gradients and steps at random.

        For measuring what rounding may do. Where a framework can't, it does nothing.
        """

    def parameters(self) -> int:
        """Count the model's trainable parameters as its framework does."""

    def forward(self, images: Array, *, training: bool) -> Outputs:
        """Run a forward pass; training updates running statistics."""

    def activations(self, images: Array) -> dict[str, Array]:
        """Return each version of each layer in evaluation, by the names of ``activations``.

        ``block1.X2@1``, and ``block1.X0`` for the block's input; an update that the model's -O
        level leaves out is not there.
        """

    def gradients(self, images: Array, labels: Labels) -> tuple[float, dict[str, Array]]:
        """Return the mean cross entropy in training and its gradient for every parameter.

        The mean is over images, and over the stages of a readout over time.
        """

    def sgd_step(self, images: Array, labels: Labels) -> float:
        """Take one step of ``Sgd()``; return the loss before the step."""

    def trace(self, images: Array, *, training: bool) -> dict[tuple[str, str], Array]:
        """Return the named values of one forward pass, by section and name (``x2_1``)."""


class Backend(Protocol):
    """A code generator for one framework."""

    @property
    def name(self) -> str:
        """Its name on the command line, and its folder under ``generated/``."""

    @property
    def description(self) -> str:
        """One line for ``cliquegraph backends``."""

    @property
    def reserved(self) -> frozenset[str]:
        """Names that its files use for anything other than the network's parts."""

    @property
    def modules(self) -> frozenset[str]:
        """Modules that its framework imports: a file of that name would shadow them."""

    @property
    def layout(self) -> Layout:
        """The names and axes of its models' weights."""

    def write(self, view: ModelView) -> str:
        """Return the source of the network."""

    def missing(self) -> str | None:
        """Return how to install the framework, or None if it is installed."""

    def live(self, model: object) -> LiveTensors | None:
        """Return the tensors of a model of this framework, None for others; imports nothing."""

    def tracer(self, source: str, class_name: str, graph: Graph) -> Tracer:
        """Load source that this backend wrote, to trace what it executes.

        Raises:
            BackendError: the framework is not installed.
        """

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        """Load source that this backend wrote; ``dtype`` is ``float64`` or ``float32``.

        Raises:
            BackendError: the framework is not installed.
        """


def backend_of(backend: str | Backend) -> Backend:
    """Return a backend by name, or the one that is passed.

    Raises:
        BackendError: it is not installed, its package can't be imported, or this is no backend.
    """
    if isinstance(backend, str):
        return find_backend(backend)
    if not hasattr(backend, "write"):
        found = describe_type(backend)
        raise BackendError(
            f"expected the name of a backend, such as {next(iter(installed()))!r}, found {found}"
        )
    return backend


def installed() -> dict[str, EntryPoint]:
    """Return the entry points of every installed backend, by name."""
    return {point.name: point for point in entry_points_of(GROUP)}


def find_backend(name: str) -> Backend:
    """Return a backend by name.

    Raises:
        BackendError: it is not installed, or its package can't be imported.
    """
    points = installed()
    if name not in points:
        known = ", ".join(points) or "none"
        near = get_close_matches(str(name).lower(), points, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BackendError(f"there is no backend {name!r}; installed: {known}{hint}")
    try:
        backend: Backend = points[name].load()
    except (ImportError, AttributeError) as error:
        raise BackendError(
            f"backend {name!r} ({points[name].value}) fails to load: {error}"
        ) from error
    return backend
