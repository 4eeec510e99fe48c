"""Colours: of kernels, of kinds of arrows."""

from __future__ import annotations

import colorsys
from functools import cache
from itertools import product
from math import dist

# Okabe and Ito's palette: told apart by people who see red and green alike.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8f6b00", "#56b4e9", "#5d3a9b", "#a8322d")

INK = "#24292f"
FAINT = "#8c959f"
ADDED, REMOVED, CHANGED = "#116329", "#a40e26", "#7d4e00"

_READABLE = 4.6  # WCAG AA asks for 4.5
_HUES, _LIGHTNESSES, _SATURATIONS = 40, (0.42, 0.32, 0.22, 0.13), (1.0, 0.62, 0.3)

Channels = tuple[float, float, float]


def kernel_colour(number: int) -> str:
    """Return the colour of a block's kernel, by its position among them.

    Each is as far from those before it, in CIELAB, as there is room; white text is readable on
    all of them. They begin again where there are no more.
    """
    colours = _spread()
    return colours[number % len(colours)]


@cache
def _spread() -> tuple[str, ...]:
    """Every colour that white is readable on, each the one farthest from those before it."""
    grid = product(_LIGHTNESSES, _SATURATIONS, range(_HUES))
    rest = {
        channels: _lab(channels)
        for channels in (colorsys.hls_to_rgb(hue / _HUES, high, deep) for high, deep, hue in grid)
        if 1.05 / (_luminance(channels) + 0.05) >= _READABLE
    }
    nearest = {channels: dist(lab, _lab((1.0, 1.0, 1.0))) for channels, lab in rest.items()}
    found = []
    while rest:
        chosen = max(nearest, key=nearest.__getitem__)
        lab = rest.pop(chosen)
        del nearest[chosen]
        for channels, other in rest.items():
            nearest[channels] = min(nearest[channels], dist(lab, other))
        found.append("#" + "".join(f"{round(255 * channel):02x}" for channel in chosen))
    return tuple(dict.fromkeys(found))


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
