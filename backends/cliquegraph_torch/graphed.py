"""A training step as a CUDA graph: one launch in place of one for each kernel.

See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs, "Whole-network capture".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.training.job import Job

WARMUP = 3
"""Eager steps before the capture, as many as PyTorch's documentation takes."""

Step = Callable[[Tensor, Tensor], None]


class GraphedStep:
    """Takes training steps on batches of images and labels, by replaying a CUDA graph.

    The first steps are eager, on a side stream: in them cuDNN chooses its algorithms and the
    optimizer creates its state, which no capture may contain. They train as every other step does.
    The next batch is copied into static tensors, and the step on those is captured, which executes
    nothing, and replayed. From then on a step is a copy and a replay; a batch of another shape
    takes an eager step.

    Args:
        step: forward pass, loss, backward pass and update. What changes from step to step must be
            in tensors that it reads: the graph repeats the kernels on the same addresses. Random
            numbers come from the device's default generator, whose seed each replay reads anew.
        memory_format: of the images.
    """

    def __init__(self, step: Step, memory_format: torch.memory_format) -> None:
        self._step, self._memory_format = step, memory_format
        self._warmup = WARMUP
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Take a step."""
        if self._warmup:
            self._warm_up(images, labels)
            return
        if self._graph is None:
            self._images = torch.empty_like(images, memory_format=self._memory_format)
            self._labels = torch.empty_like(labels)
        elif images.shape != self._images.shape:
            self._step(images, labels)
            return
        self._images.copy_(images)
        self._labels.copy_(labels)
        if self._graph is None:
            self._graph = self._capture()
        self._graph.replay()

    def _warm_up(self, images: Tensor, labels: Tensor) -> None:
        """Take an eager step on a side stream, where a capture will run, too."""
        self._warmup -= 1
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # in PyTorch
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._step(images, labels)
        torch.cuda.current_stream().wait_stream(side)

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Meanwhile another thread pins the memory of the next batches, which would invalidate a
        # capture in the default mode.
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step(self._images, self._labels)
        except RuntimeError as error:
            raise TrainingError(
                f"the step can't be captured as a CUDA graph: {error}; leave out --cuda-graph"
            ) from error
        return graph


def require_capturable(job: Job, ranks: int) -> None:
    """Raise a ``UsageError`` if the steps of a job can't be CUDA graphs."""
    if not torch.cuda.is_available():
        raise UsageError(
            "--cuda-graph needs a CUDA device, and PyTorch finds none: leave it out; on a CPU no "
            "kernels are launched, and -O1 or -O2 shorten a step"
        )
    if ranks > 1:
        raise UsageError(
            f"--cuda-graph trains on one device, not {ranks}: use --devices 1, or leave it out; "
            "DDP exchanges gradients from the host"
        )
    if job.precision == "float16":
        raise UsageError(
            "--cuda-graph does not train in float16, whose loss scaling reads each step's "
            "gradients on the host: use --precision bfloat16"
        )
    if job.accumulate > 1:
        raise UsageError(
            "--cuda-graph captures the step on a whole batch: leave out --accumulate "
            f"{job.accumulate}, or --cuda-graph"
        )
