"""Widths in generated code: numbers, constructor arguments, and sums of multiples of those."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from itertools import groupby


@dataclass(frozen=True)
class Width:
    """A sum of multiples of constructor arguments, such as the width of X0 plus 2 × filters.

    >>> str(Width.of("in_channels") + Width.of("filters") + Width.of("filters"))
    'in_channels + 2 * filters'
    """

    terms: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, name: str) -> Width:
        """Return an argument by itself."""
        return cls(((name, 1),))

    def __add__(self, other: Width) -> Width:
        total = dict(self.terms)
        for name, factor in other.terms:
            total[name] = total.get(name, 0) + factor
        return Width(tuple(total.items()))

    def __str__(self) -> str:
        return " + ".join(
            name if factor == 1 else f"{factor} * {name}" for name, factor in self.terms
        )

    @property
    def is_name(self) -> bool:
        """Whether it is an argument by itself."""
        return len(self.terms) == 1 and self.terms[0][1] == 1

    def value(self, arguments: Mapping[str, int]) -> int:
        """Return its value for given arguments."""
        return sum(factor * arguments[name] for name, factor in self.terms)

    def renamed(self, names: Mapping[str, str]) -> Width:
        """Return the same sum with other names for the arguments."""
        return Width(tuple((names.get(name, name), factor) for name, factor in self.terms))


Dim = int | str | Width
"""A width in generated code: a number, an argument, or a sum of arguments."""


def ratio(rate: float) -> str:
    """Return a rate as a short decimal, or else as a fraction.

    >>> ratio(0.25), ratio(1 / 108)
    ('0.25', '1 / 108')
    """
    fraction = Fraction(rate).limit_denominator(10**6)
    if len(str(rate)) <= 6 or float(fraction) != rate:
        return str(rate)
    return f"{fraction.numerator} / {fraction.denominator}"


def bounds(start: Dim | None, stop: Dim | None) -> str:
    """Return ``start:stop``, with the spaces of a formatter.

    >>> bounds(None, Width.of("k0") + Width.of("k"))
    ': k0 + k'
    """
    ends = ["" if end is None else str(end) for end in (start, stop)]
    sums = any(isinstance(end, Width) and not end.is_name for end in (start, stop))
    return (" : " if sums else ":").join(ends).strip()


def items(dims: Iterable[Dim]) -> list[str]:
    """Return the items of a list of widths, with long runs of one width abbreviated.

    >>> items(["in_channels", *["filters"] * 5])
    ['in_channels', '*[filters] * 5']
    """
    texts = []
    for dim, run in groupby(dims):
        count = len(list(run))
        texts += [f"*[{dim}] * {count}"] if count > 3 else [str(dim)] * count
    return texts


def arguments_in(part: object) -> Iterator[str]:
    """Yield the constructor arguments in the widths of a member, or of several."""
    if isinstance(part, Width):
        yield from (name for name, _ in part.terms)
    elif isinstance(part, tuple):
        for each in part:
            yield from arguments_in(each)
    elif is_dataclass(part):
        for field in fields(part):
            yield from arguments_in(getattr(part, field.name))
