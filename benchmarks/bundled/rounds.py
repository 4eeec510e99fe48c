"""Paired timing.

A machine's speed drifts by more than the differences to be measured. So variants run in turn
within one process, round by round, and the ratio of two times of the same round is what counts.
That does not help if another process takes a core: threads that wait for each other then lose a
time slice in every operation, and small networks run a hundred times slower; results include the
load of the machine at the start.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Samples = dict[str, list[float]]
Json = dict[str, Any]


def interleave(runs: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> Samples:
    """Call every run once in each round, starting with a different one each time.

    Args:
        runs: by name; each returns the seconds that it measured.
        rounds: how many times.
        warm_up: earlier rounds that do not count.
    """
    names = list(runs)
    samples: Samples = {name: [] for name in names}
    for index in range(-warm_up, rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()  # here, so that it is in no measurement
            seconds = runs[name]()
            if index >= 0:
                samples[name].append(seconds)
    return samples


def summarise(samples: Samples, baseline: str) -> dict[str, Json]:
    """Return, for each name, its times and the ratios of its times to the baseline's."""
    return {
        name: {
            "seconds": spread(seconds),
            "ratio_to": baseline,
            "ratio": spread([a / b for a, b in zip(seconds, samples[baseline], strict=True)]),
            "samples": [significant(each) for each in seconds],
        }
        for name, seconds in samples.items()
    }


def rated(
    summary: Mapping[str, Json], count: int, found: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """Put images per second of a batch of ``count``, and other results, before the times."""
    return {
        name: {
            "images_per_second": significant(count / row["seconds"]["median"]),
            **(found[name] if found else {}),
            **row,
        }
        for name, row in summary.items()
    }


def spread(numbers: Sequence[float]) -> Json:
    """Median and quartiles."""
    quartiles = statistics.quantiles(numbers, method="inclusive") if len(numbers) > 1 else numbers
    return {
        "median": significant(statistics.median(numbers)),
        "lower_quartile": significant(quartiles[0]),
        "upper_quartile": significant(quartiles[-1]),
    }


def significant(number: float, digits: int = 5) -> float:
    """Round to significant digits, so that files stay readable."""
    return float(f"{number:.{digits}g}")
