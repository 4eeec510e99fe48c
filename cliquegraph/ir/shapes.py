"""Invalid shapes, and the channels that a compression leaves."""

from __future__ import annotations

from decimal import ROUND_UP, Context, Decimal
from fractions import Fraction


class ShapeError(ValueError):
    """Invalid shapes; the builder turns it into a message with a location.

    Attributes:
        hint: how to fix it, if known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def compressed(channels: int, factor: float) -> int:
    """Return how many of ``channels`` a compression factor leaves, rounded down.

    The factor is the decimal in the spec, not its binary value: 0.29 of 100 is 29.
    """
    return int(channels * Fraction(str(factor)))


def least_factor(channels: int) -> Decimal:
    """Return the smallest factor of three digits that leaves one of ``channels`` channels.

    >>> least_factor(6)
    Decimal('0.167')
    """
    return Context(prec=3, rounding=ROUND_UP).divide(Decimal(1), Decimal(channels))


def squeezed(channels: int) -> int:
    """Return the width of the attention's first layer: half of the channels, rounded down."""
    return channels // 2
