"""Which -O level trains fastest in Flax (docs/optimiser.md)."""

from __future__ import annotations

from cliquegraph.plugins.engines import Choice
from cliquegraph.training.job import Job
from cliquegraph_flax.devices import open_devices


def choose(job: Job) -> Choice:
    """Return how to train a job, where it leaves a choice."""
    if job.freeze:
        return Choice(0, "for --freeze: each part has its own normalizations", binding=True)
    if not job.any_level:
        return Choice(job.compilation.level, "")
    if open_devices(job).platform == "cpu":
        why = "on this processor: 0.62 to 0.80 of -O0's step, 0.3 of its memory (docs/optimiser.md)"
        return Choice(2, why)
    return Choice(0, "on this device: no level has been measured there (docs/optimiser.md)")
