"""Buffers that hold the maps of several values in adjacent columns, instead of concatenating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cliquegraph.ir.nodes import Value


@dataclass(frozen=True, eq=False)
class Slab:
    """One buffer of maps of one size.

    Attributes:
        values: what lies in it, from the first column to the last.
    """

    values: tuple[Value, ...]

    @property
    def channels(self) -> int:
        """The width of the buffer."""
        return sum(value.type.channels for value in self.values)

    @cached_property
    def columns(self) -> dict[Value, tuple[int, int]]:
        """The first column of each value, and the one after its last."""
        columns: dict[Value, tuple[int, int]] = {}
        start = 0
        for value in self.values:
            columns[value] = start, start + value.type.channels
            start += value.type.channels
        return columns

    def windows(self, read: Sequence[Value]) -> list[tuple[int, int]]:
        """Return the ranges of adjacent columns that hold these values, in this order."""
        windows: list[tuple[int, int]] = []
        columns = self.columns
        for start, stop in (columns[value] for value in read):
            if windows and windows[-1][1] == start:
                windows[-1] = windows[-1][0], stop
            else:
                windows.append((start, stop))
        return windows
