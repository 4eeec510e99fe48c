"""Generated PyTorch models in timm's registry, for ``timm.create_model`` (docs/timm.md)."""

from __future__ import annotations

import os
from typing import Protocol

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.discovery import entry_points_of
from cliquegraph.plugins.install import how_to_install
from cliquegraph.spec.load import load
from cliquegraph.spec.network import NetworkSpec

GROUP = "cliquegraph.timm"


class Register(Protocol):
    """What registers a network in timm, from the entry point group ``cliquegraph.timm``."""

    def __call__(self, network: NetworkSpec, *, name: str | None, weights: str | None) -> str:
        """Register a network; return its name in timm."""


def register(
    spec: NetworkSpec | str | os.PathLike[str],
    *,
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> str:
    """Register a network in timm; return its name there.

    The model is compiled at -O0 when it is first created.

    Args:
        spec: the network, or the file of its spec.
        name: its name in timm; default: the spec's, with the prefix ``cliquegraph_`` if timm has a
            model of that name.
        weights: the file that ``pretrained=True`` loads, in any format.

    Raises:
        BackendError: timm or PyTorch is not installed.
        UsageError: timm has a model called ``name``, or can't have one; ``weights`` is no file;
            or the network gives logits of every stage.
        SpecError: the spec is invalid.
    """
    points = entry_points_of(GROUP)
    if how := how_to_install({"torch": "torch", "timm": "timm"}):
        raise BackendError(f"timm's registry needs PyTorch and timm: {how}")
    if not points:
        raise BackendError("no installed backend registers models in timm")
    network = spec if isinstance(spec, NetworkSpec) else load(spec)
    call: Register = points[0].load()
    return call(network, name=name, weights=None if weights is None else os.fspath(weights))
