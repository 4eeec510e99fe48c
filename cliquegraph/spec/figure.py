"""Figures as a paper prints them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

UNITS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}
FIGURE_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,12})?[kMGT]$|^[0-9]{1,18}$"


@dataclass(frozen=True)
class Figure:
    """A figure as printed, such as ``14.38M``; it matches values that round to its digits."""

    text: str

    @property
    def _parts(self) -> tuple[Decimal, str]:
        unit = self.text[-1] if self.text[-1] in UNITS else ""
        return Decimal(self.text.removesuffix(unit)), unit

    def matches(self, computed: int) -> bool:
        """Tell whether ``computed`` rounds to the digits printed.

        >>> Figure("14.38M").matches(14_383_024)
        True
        >>> Figure("14.38M").matches(14_385_001)
        False
        """
        value, unit = self._parts
        scaled = Decimal(computed).scaleb(-UNITS[unit])
        digits = Decimal(1).scaleb(int(value.as_tuple().exponent))
        return any(
            scaled.quantize(digits, rounding) == value
            for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN)
        )

    def show(self, computed: int) -> str:
        """Print ``computed`` with the digits and the unit of this figure.

        >>> Figure("8.15G").show(8_200_000_000)
        '8.20G'
        """
        value, unit = self._parts
        digits = Decimal(1).scaleb(int(value.as_tuple().exponent))
        return f"{Decimal(computed).scaleb(-UNITS[unit]).quantize(digits, ROUND_HALF_UP)}{unit}"

    def __str__(self) -> str:
        return self.text
