"""The protocol of an exporter for one runtime's format, and its discovery.

An exporter is an object in the entry point group ``cliquegraph.exporters``, named like its format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cliquegraph.diagnostics.errors import BackendError, UsageError
from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:  # these modules import this one
    from cliquegraph.compiler import Compilation
    from cliquegraph.ir.storage import Array
    from cliquegraph.plugins.engines import Classify

GROUP = "cliquegraph.exporters"


class Exporter(Protocol):
    """Writes the models of one backend in a format."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that it needs, under the names of their packages."""

    @property
    def layout(self) -> str:
        """The axes of images: ``NCHW`` or ``NHWC``."""

    @property
    def has_metadata(self) -> bool:
        """Whether its files have a place for metadata."""

    def export(
        self, compilation: Compilation, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
    ) -> bytes:
        """Return a file: a folded network for batches of any size.

        Args:
            compilation: the network, with ``inference``.
            tensors: its canonical tensors, by name, not folded.
            metadata: JSON.
        """

    def classifier(self, path: Path) -> Classify:
        """Load a file in the format's runtime."""


def exporter_names() -> tuple[str, ...]:
    """Return the names of the formats that can be written."""
    return tuple(point.name for point in entry_points_of(GROUP))


def find_exporter(name: str) -> Exporter:
    """Return the exporter of a format.

    Raises:
        UsageError: there is no such format.
        BackendError: its dependencies are not installed.
    """
    from importlib.util import find_spec

    points = {point.name: point for point in entry_points_of(GROUP)}
    if name not in points:
        raise UsageError(
            f"there is no format {name!r} to export to; choose from {', '.join(points)}"
        )
    try:
        exporter: Exporter = points[name].load()
    except ModuleNotFoundError as error:
        raise BackendError(f"{name} needs {error.name}: pip install {error.name}") from None
    if missing := [module for module in exporter.modules if find_spec(module) is None]:
        raise BackendError(f"{name} needs {', '.join(missing)}: pip install {' '.join(missing)}")
    return exporter
