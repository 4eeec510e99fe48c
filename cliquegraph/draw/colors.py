"""Colors of kernels and of kinds of arrows."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from math import dist

from cliquegraph.draw.scene import Change
from cliquegraph.steps.graph import Edge

# Based on Okabe and Ito's palette, which is safe for red-green color blindness.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8f6b00", "#56b4e9", "#5d3a9b", "#a8322d")

INK = "#24292f"
FAINT = "#8c959f"
CHANGES = {Change.ADDED: "#116329", Change.REMOVED: "#a40e26", Change.CHANGED: "#7d4e00"}

_READABLE = 4.6  # contrast; WCAG AA requires 4.5
_MOST = 200
_DARKEST = 30.0  # L*: darker colors all look black
_HUES, _LIGHTNESSES, _SATURATIONS = 36, tuple(i / 50 for i in range(6, 30)), (1.0, 0.66, 0.36, 0.16)

Channels = tuple[float, float, float]


def kernel_colors(edges: Iterable[Edge]) -> dict[Edge, str]:
    """Return the colors of a block's kernels.

    Colors are spread as far apart as possible in CIELAB and assigned so that kernels with adjacent
    sources or targets differ most. White text is readable on all of them. The colors repeat if
    there are more kernels.
    """
    chosen: dict[Edge, tuple[str, Channels]] = {}
    rest: list[tuple[str, Channels]] = []
    left = len(edges := list(edges))
    for edge in edges:
        rest = rest or list(_spread()[:left])
        beside = [
            chosen[other][1]
            for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, -1))
            if (other := replace(edge, source=edge.source + i, target=edge.target + j)) in chosen
        ]
        chosen[edge] = max(
            rest, key=lambda color: min((dist(color[1], lab) for lab in beside), default=0.0)
        )
        rest.remove(chosen[edge])
        left -= 1
    return {edge: color for edge, (color, _) in chosen.items()}


@cache
def _spread() -> tuple[tuple[str, Channels], ...]:
    """Colors on which white is readable, each the farthest from those before it."""
    grid = product(range(_HUES), _LIGHTNESSES, _SATURATIONS)
    channels = (colorsys.hls_to_rgb(hue / _HUES, high, deep) for hue, high, deep in grid)
    labs = {
        f"#{''.join(f'{round(255 * c):02x}' for c in each)}": _lab(each)
        for each in channels
        if 1.05 / (_luminance(each) + 0.05) >= _READABLE and _lab(each)[0] >= _DARKEST
    }
    nearest = {color: dist(lab, _lab((1.0, 1.0, 1.0))) for color, lab in labs.items()}
    spread: list[tuple[str, Channels]] = []
    while nearest and len(spread) < _MOST:
        chosen = max(nearest, key=nearest.__getitem__)
        del nearest[chosen]
        for color in nearest:
            nearest[color] = min(nearest[color], dist(labs[color], labs[chosen]))
        spread.append((chosen, labs[chosen]))
    return tuple(spread)


def _linear(channels: Channels) -> list[float]:
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def _luminance(channels: Channels) -> float:
    """Relative luminance as defined by WCAG 2."""
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), _linear(channels), strict=True))


def _lab(channels: Channels) -> Channels:
    """CIELAB under D65, in which distances approximate perceived differences."""
    red, green, blue = _linear(channels)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.0890
    f, g, h = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * g - 16, 500 * (f - g), 200 * (g - h)
