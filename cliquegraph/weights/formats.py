"""The formats of a network's weights, by name."""

from __future__ import annotations

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.plugins.backends import find_backend, installed
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.layout import CanonicalLayout, Format
from cliquegraph.weights.official import OfficialLayout
from cliquegraph.weights.torchvision import TorchvisionLayout

CANONICAL, OFFICIAL, TORCHVISION = "canonical", "official", "torchvision"
INFERENCE = "--inference"
"""The option of formats of folded models."""


def format_names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return (CANONICAL, OFFICIAL, TORCHVISION, *installed())


def formats(
    network: NetworkSpec, name: str, level: int | None = None, *, inference: bool = False
) -> tuple[Format, ...]:
    """Return the formats of a network under a name: one, or one for each -O level.

    torchvision's DenseNets have two: with today's names, and with those of the published files.

    Args:
        network: the network.
        name: ``canonical``, ``official``, ``torchvision`` or a backend's.
        level: the level at which a backend's model was compiled; None for all.
        inference: only a backend's folded model.

    Raises:
        UsageError: there is no such level.
        BackendError: there is no such backend.
        WeightsError: the network has no representation in the official format, or torchvision's.
    """
    lowered = Compilation(network).lowered
    if name == CANONICAL:
        return (Format(name, lowered, CanonicalLayout()),)
    if name == OFFICIAL:
        return (Format(name, lowered, OfficialLayout(lowered)),)
    if name == TORCHVISION:
        layouts = (TorchvisionLayout(lowered, published=each) for each in (False, True))
        return tuple(Format(name, lowered, layout) for layout in layouts)
    if name not in installed():
        raise BackendError(f"there is no format {name!r}; choose from {', '.join(format_names())}")
    layout = find_backend(name).layout
    if inference:
        compilations = [Compilation(network, inference=True)]
    else:
        # The default first, since several levels can share a layout.
        levels = sorted(LEVELS, key=lambda each: (each != DEFAULT_LEVEL, each))
        compilations = [Compilation(network, n) for n in (levels if level is None else [level])]
    return tuple(Format(name, each.graph, layout, *each.options) for each in compilations)
