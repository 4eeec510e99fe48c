"""Invalid shapes, and how many channels a share of some is."""

from __future__ import annotations

from decimal import ROUND_UP, Context, Decimal
from fractions import Fraction


class ShapeError(ValueError):
    """Sizes that no network can have; the builder turns it into a message with a place.

    Attributes:
        hint: the way out, if it is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def compressed(channels: int, factor: float) -> int:
    """Return the channels that are left of ``channels``: the factor's share, rounded down.

    The factor counts as the decimal that the spec says: 0.29 of 100 is 29.
    """
    return int(channels * Fraction(str(factor)))


def least_factor(channels: int) -> Decimal:
    """Return the smallest factor of three digits that leaves one of ``channels``.

    >>> least_factor(6)
    Decimal('0.167')
    """
    return Context(prec=3, rounding=ROUND_UP).divide(Decimal(1), Decimal(channels))


def squeezed(channels: int) -> int:
    """Return the width of the attention's first layer: half of the channels, rounded down."""
    return channels // 2
