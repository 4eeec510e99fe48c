"""Colours: of kernels, of kinds of arrows."""

from __future__ import annotations

import colorsys

# Okabe and Ito's palette: told apart by people who see red and green alike.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8f6b00", "#56b4e9", "#5d3a9b", "#a8322d")

INK = "#24292f"
FAINT = "#8c959f"
ADDED, REMOVED, CHANGED = "#116329", "#a40e26", "#7d4e00"

_GOLDEN = 0.618033988749895
_READABLE = 4.6  # WCAG AA asks for 4.5


def kernel_colour(number: int) -> str:
    """Return the colour of a block's kernel, by its position among them.

    Hues go round by the golden ratio, so that neighbours differ most; three lightnesses keep
    hues apart that come close. White text is readable on all of them.
    """
    hue = (0.58 + number * _GOLDEN) % 1
    lightness = (0.42, 0.34, 0.26)[number % 3]
    while True:
        channels = colorsys.hls_to_rgb(hue, lightness, 0.68)
        if _contrast_with_white(channels) >= _READABLE:
            break
        lightness *= 0.95
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _contrast_with_white(channels: tuple[float, float, float]) -> float:
    """Relative luminances as WCAG 2 compares them."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05)
