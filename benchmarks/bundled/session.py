"""One part of a run, in a separate process: its units of work, its time, its lines."""

from __future__ import annotations

import gc
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from benchmarks.bundled.networks import Bundle
from benchmarks.bundled.rounds import Json

Units = Mapping[str, Callable[[], None]]


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        batches: batch sizes of timings; the first one where there is no time for all.
        largest_image: maximal image side of timings, in pixels; None: the network's own.
        rounds: how often each variant is timed, in turn.
        seconds: the least duration of one measurement, reached by repeating.
        checked: the batch size for comparing levels.
        largest_checked: maximal side of its images, in pixels.
    """

    batches: tuple[int, ...] = (64, 128)
    largest_image: int | None = None
    rounds: int = 5
    seconds: float = 0.2
    checked: int = 8
    largest_checked: int | None = None


DRY = Sizes((2,), largest_image=32, rounds=2, seconds=0, checked=4, largest_checked=32)


class Session:
    """Writes the lines of a part, and starts no unit without enough time."""

    def __init__(
        self, part: str, bundle: Bundle, dry: bool, seconds: float, started: float, output: TextIO
    ) -> None:
        self.bundle, self.dry = bundle, dry
        self.sizes = DRY if dry else Sizes()
        self._part, self._started, self._output = part, started, output
        self._until = time.time() + seconds
        self._unit: str | None = None
        self._longest = 0.0

    def line(self, **fields: Any) -> None:
        """Write one result at once."""
        line = {"part": self._part, "t": round(time.time() - self._started, 1)}
        if self._unit is not None:
            line["unit"] = self._unit
        print(json.dumps(_plain(line | fields), ensure_ascii=False), file=self._output, flush=True)

    def allows(self, seconds: float) -> bool:
        """Whether this much time is left."""
        return time.time() + seconds < self._until

    def run(self, units: Units, **facts: Any) -> None:
        """Run units in order; a failure is a line, and the others still run.

        A unit starts only if there is time for one as long as the longest before it. The plan is
        written first, so that a reader knows what is missing.
        """
        self.line(plan=list(units), **facts)
        for name, unit in units.items():
            if not self.allows(self._longest):
                return
            self._unit, start = name, time.time()
            try:
                unit()
            except Exception as error:  # noqa: BLE001  # a failure is a result too
                self.line(**failure(error))
            self._unit = None
            self._longest = max(self._longest, time.time() - start)
            release()
        self.line(finished=True)


def failure(error: Exception) -> Json:
    """Return an error as part of a result line."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return {
        "error": f"{type(error).__name__}: {str(error)[:400]}",
        "at": f"{last.filename.rpartition('/')[2]}:{last.lineno} in {last.name}",
    }


def release() -> None:
    """Return unreferenced memory to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _plain(value: Any) -> Any:
    """The same for JSON, which has no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
