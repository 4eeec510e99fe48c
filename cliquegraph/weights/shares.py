"""The compression factor, inferred from numbers of input and output channels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from cliquegraph.ir.shapes import compressed


def compression_of(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return a factor that maps the first number of each pair to the second.

    One half if it fits, as in the papers, else the shortest decimal that does; None if no factor
    fits.
    """
    least = max(Fraction(outputs, channels) for channels, outputs in pairs)
    for factor in (0.5, *(_round_up(least, digits) for digits in range(1, 7))):
        if factor <= 1 and all(compressed(c, factor) == outputs for c, outputs in pairs):
            return factor
    return None


def _round_up(factor: Fraction, digits: int) -> float:
    scale = int(10**digits)
    return ceil(factor * scale) / scale
