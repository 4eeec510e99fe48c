"""Which -O level and memory format train fastest in PyTorch (docs/optimiser.md)."""

from __future__ import annotations

import torch

from cliquegraph.plugins.engines import Choice
from cliquegraph.training.job import Job

STEPS = {
    (0, True): "0.77 to 0.87",
    (1, False): "0.64 to 0.82",
    (1, True): "0.62 to 0.82",
    (2, False): "0.61 to 0.85",
    (2, True): "0.63 to 0.81",
}
"""The time of a training step on a CPU, by level and channels_last, over that of -O0 in NCHW, for
three networks:
benchmarks/results/memory_format_torch_cpu.json."""

CPU_LEVEL = 1
"""On a CPU the fastest on average, by a hundredth (docs/optimiser.md, "Which level"); -O2 is for
batches that do not fit otherwise."""

_SYNC = "for --sync-batchnorm: it replaces BatchNorm2d modules, which -O0 has alone"
_FREEZE = "for --freeze: at -O0 each part has its own normalizations"
_CUDA = "on CUDA: no level has been measured there (docs/optimiser.md)"
_CUDA_FORMAT = "on CUDA: what cuDNN's kernels for tensor cores read (docs/optimiser.md)"


def choose(job: Job) -> Choice:
    """Return how to train a job, where it leaves a choice."""
    cuda = torch.cuda.is_available()
    timed = True if cuda else None  # on a CPU there is no cuDNN
    if job.sync_batchnorm:
        return Choice(0, _SYNC, True, timed, binding=True)
    if job.freeze:
        return Choice(0, _FREEZE, True, timed, binding=True)
    if cuda:
        return Choice(0, _CUDA if job.any_level else _CUDA_FORMAT, True, timed)
    level = CPU_LEVEL if job.any_level else job.compilation.level
    step = STEPS.get((level, job.channels_last is not False))
    why = "on a processor (docs/optimiser.md)"
    if step is not None:
        why = f"on a processor: measured {step} of -O0's step in NCHW, float32 (docs/optimiser.md)"
    return Choice(level, why, True, timed)
