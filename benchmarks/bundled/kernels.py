"""The kernels of a training step on a GPU, from a profile of either framework."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from typing import NamedTuple

from benchmarks.bundled.rounds import Json, significant

LONGEST = 8
"""How many kernels a profile names."""


class Launch(NamedTuple):
    """What the device executes: a kernel, or a copy or fill; start and end in seconds."""

    name: str
    start: float
    end: float
    is_kernel: bool


@dataclass(frozen=True)
class Kernels:
    """The kernels of a step.

    Attributes:
        count: its kernels; copies and fills do not count.
        busy_seconds: how long the device is busy, including copies and fills; concurrent kernels
            count once.
        longest: the slowest kernels by name, with their total seconds.
    """

    count: int
    busy_seconds: float
    longest: dict[str, float]

    @classmethod
    def of(cls, launches: Iterable[Launch]) -> Kernels:
        """Summarize a profile."""
        launched = sorted(launches, key=lambda each: (each.start, each.end))
        busy, until = 0.0, float("-inf")
        total: dict[str, float] = defaultdict(float)
        for name, start, end, _ in launched:
            busy += max(0.0, end - max(start, until))
            until = max(until, end)
            total[name] += end - start
        slowest = nlargest(LONGEST, total, key=total.__getitem__)
        longest = {name[:80]: round(total[name], 7) for name in slowest}
        return cls(sum(each.is_kernel for each in launched), busy, longest)

    def described(self) -> Json:
        """Return the kernels as part of a result line."""
        busy = significant(self.busy_seconds)
        return {"kernels": self.count, "busy_seconds": busy, "longest": self.longest}
