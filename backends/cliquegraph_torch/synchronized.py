"""Batch normalization by the statistics of all processes, on the CPU too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce, get_world_size, is_initialized

from cliquegraph.diagnostics.errors import UsageError


class SynchronizedNorm(nn.BatchNorm2d):
    """``BatchNorm2d`` whose batch is that of every process.

    PyTorch's own ``SyncBatchNorm`` does not accept CPU tensors.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (batch, channels, height, width)."""
        if not (self.training and is_initialized() and get_world_size() > 1):
            return super().forward(input)
        count = input.numel() // input.shape[1] * get_world_size()
        # As in BatchNorm2d: narrower types are summed in float32.
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _sum(wide.sum((0, 2, 3))) / count
        centered = wide - mean[:, None, None]
        var = _sum(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            for running, observed in (
                (self.running_mean, mean),
                (self.running_var, var * (count / (count - 1))),
            ):
                assert running is not None and self.momentum is not None  # noqa: S101  # as generated
                running.lerp_(observed, self.momentum)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def synchronize(model: nn.Module) -> None:
    """Synchronize every batch normalization of a model compiled at -O0 over all processes.

    Raises:
        UsageError: the model shares moments between readers, as from -O1 on, or processes drop
            branches independently.
    """
    names = {type(module).__name__ for module in model.modules()}
    if names & {"Moments", "Norm"}:
        raise UsageError("--sync-batchnorm is for models compiled at -O0")
    if "BranchNorm2d" in names:
        raise UsageError(
            "--sync-batchnorm can't do drop-path per batch: each process draws its own"
        )
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            # Same parameters, buffers and names: only forward differs.
            module.__class__ = SynchronizedNorm


class _SumOverRanks(torch.autograd.Function):
    """The sum over all processes. Its gradient is a sum too, since each process reads the sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]  # PyTorch's stub
    return total
