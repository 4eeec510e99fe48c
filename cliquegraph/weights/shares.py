"""The share of channels that compressions keep, from what they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from cliquegraph.ir.shapes import compressed


def share_kept(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return the share by which each number of channels becomes the one beside it.

    A half where that fits, as in the papers, else the shortest decimal that does; None where no
    share does.
    """
    least = max(Fraction(kept, channels) for channels, kept in pairs)
    for share in (0.5, *(_rounded_up(least, digits) for digits in range(1, 7))):
        if share <= 1 and all(compressed(c, share) == kept for c, kept in pairs):
            return share
    return None


def _rounded_up(share: Fraction, digits: int) -> float:
    scale = int(10**digits)
    return ceil(share * scale) / scale
