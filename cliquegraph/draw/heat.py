"""Heat maps of a network's connections: Figure 5 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cliquegraph.draw.plot import plot
from cliquegraph.weights.heat import NetworkHeat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 0.28  # inches for one connection, where a block has few


def draw_heat(networks: Sequence[NetworkHeat], suffix: str) -> bytes:
    """Return a picture: a column for each network, a row for each block, each with its own scale.

    Args:
        networks: one, or several in adjacent columns.
        suffix: ``svg``, ``png`` or ``html``, a page with the picture and its values.

    Raises:
        UsageError: another suffix, or Matplotlib is not installed.
    """
    return plot(
        suffix,
        "a heat map is",
        "heat.html.jinja",
        lambda: _figure(networks),
        title=" and ".join(network.title for network in networks),
        networks=networks,
    )


def _figure(networks: Sequence[NetworkHeat]) -> Figure:
    from matplotlib.figure import Figure

    rows = max(len(network.blocks) for network in networks)
    layers = [block.values.shape[1] for network in networks for block in network.blocks]
    side = max(2.2, min(6.0, _CELL * max(layers) + 1))
    figure = Figure(figsize=(side * len(networks) + 1, side * rows), layout="constrained")
    axes = figure.subplots(rows, len(networks), squeeze=False)
    for column, network in enumerate(networks):
        for place, block in zip(axes[:, column], network.blocks, strict=False):
            place.set_facecolor("0.88")  # no connection
            # Scaled per block: the paper compares the pattern within each block.
            image = place.imshow(block.values, vmin=0, cmap="viridis", aspect="equal")
            place.set_title(network.caption(block), parse_math=False)
            place.set_xlabel("layer j")
            place.set_ylabel("source i, 0: the input")
            _ticks(place, block.values.shape)
            figure.colorbar(image, ax=place, label="mean |W(i→j)|", shrink=0.8)
        for place in axes[len(network.blocks) :, column]:
            place.set_axis_off()
    return figure


def _ticks(place: Any, shape: tuple[int, ...]) -> None:
    """Label each connection, or every few if there are many."""
    sources, layers = shape
    every = 1 + (layers - 1) // 20
    place.set_xticks(range(0, layers, every), [str(j + 1) for j in range(0, layers, every)])
    place.set_yticks(range(0, sources, every), [str(i) for i in range(0, sources, every)])
