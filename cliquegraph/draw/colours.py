"""Colours: of kernels, of kinds of arrows."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from math import dist

from cliquegraph.draw.scene import Change
from cliquegraph.steps.graph import Edge

# Okabe and Ito's palette: told apart by people who see red and green alike.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8f6b00", "#56b4e9", "#5d3a9b", "#a8322d")

INK = "#24292f"
FAINT = "#8c959f"
CHANGES = {Change.ADDED: "#116329", Change.REMOVED: "#a40e26", Change.CHANGED: "#7d4e00"}

_READABLE = 4.6  # WCAG AA asks for 4.5
_MOST = 200
_DARKEST = 30.0  # L*: darker ones are all read as black
_HUES, _LIGHTNESSES, _SATURATIONS = 36, tuple(i / 50 for i in range(6, 30)), (1.0, 0.66, 0.36, 0.16)

Channels = tuple[float, float, float]


def kernel_colours(edges: Iterable[Edge]) -> dict[Edge, str]:
    """Return the colours of a block's kernels.

    They are as far from each other, in CIELAB, as there is room, and among them each goes where
    those are farthest that stand beside it: of the same target, or the same source. White text
    is readable on all of them. They begin again where there are no more.
    """
    found: dict[Edge, tuple[str, Channels]] = {}
    rest: list[tuple[str, Channels]] = []
    left = len(edges := list(edges))
    for edge in edges:
        rest = rest or list(_spread()[:left])
        beside = [
            found[other][1]
            for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, -1))
            if (other := replace(edge, source=edge.source + i, target=edge.target + j)) in found
        ]
        found[edge] = max(
            rest, key=lambda colour: min((dist(colour[1], lab) for lab in beside), default=0.0)
        )
        rest.remove(found[edge])
        left -= 1
    return {edge: colour for edge, (colour, _) in found.items()}


@cache
def _spread() -> tuple[tuple[str, Channels], ...]:
    """Colours that white is readable on, each the one farthest from those before it."""
    grid = product(range(_HUES), _LIGHTNESSES, _SATURATIONS)
    channels = (colorsys.hls_to_rgb(hue / _HUES, high, deep) for hue, high, deep in grid)
    labs = {
        f"#{''.join(f'{round(255 * c):02x}' for c in each)}": _lab(each)
        for each in channels
        if 1.05 / (_luminance(each) + 0.05) >= _READABLE and _lab(each)[0] >= _DARKEST
    }
    nearest = {colour: dist(lab, _lab((1.0, 1.0, 1.0))) for colour, lab in labs.items()}
    found: list[tuple[str, Channels]] = []
    while nearest and len(found) < _MOST:
        chosen = max(nearest, key=nearest.__getitem__)
        del nearest[chosen]
        for colour in nearest:
            nearest[colour] = min(nearest[colour], dist(labs[colour], labs[chosen]))
        found.append((chosen, labs[chosen]))
    return tuple(found)


def _linear(channels: Channels) -> list[float]:
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def _luminance(channels: Channels) -> float:
    """Relative luminance as WCAG 2 has it."""
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), _linear(channels), strict=True))


def _lab(channels: Channels) -> Channels:
    """CIELAB under D65, in which distances are about those that are seen."""
    red, green, blue = _linear(channels)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.0890
    f, g, h = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * g - 16, 500 * (f - g), 200 * (g - h)
