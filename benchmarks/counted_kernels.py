"""Stand-ins for the Triton kernels of a generated file, which count the bytes that those move."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

Windows = list[tuple[int, int, int]]
Affine = tuple[Tensor, Tensor]

DESIGNS = {"A": 1, "B": 2}
"""``TRITON`` in a generated file: kernels around layers; and those of 1×1 convolutions."""


class CountedKernels:
    """Stand-ins that compute what the kernels do, and count what those read and write.

    A kernel that concatenates, rectifies, multiplies or sums on the way reads and writes none of
    what is between.
    """

    def __init__(self, uncounted: Callable[[], AbstractContextManager[None]]) -> None:
        self.uncounted, self.total = uncounted, 0

    def replace(self, model: nn.Module, design: int) -> None:
        """Patch a model's module to use the stand-ins where it would use Triton, in 16 bits."""
        names: dict[str, Any] = type(model).forward.__globals__

        def is_fused(data: Tensor, windows: Windows, w: Tensor | None) -> bool:
            if w is None or w.shape[2:] != (1, 1):
                return False
            return design == DESIGNS["B"] and len(w) <= 384 and len(windows) <= 2

        names["on_triton"] = lambda data: True
        names["is_fused"] = is_fused
        names["affine_relu"] = self.affine_relu
        names["affine_relu_backward"] = self.backward
        names["by_moments"] = self.by_moments
        names["copy_with_moments"] = self.copy_with_moments
        names["parts"] = lambda *tensors: [tensors]  # as on a GPU

    def affine_relu(
        self, data: Tensor, windows: Windows, affine: Affine, y: Tensor, w: Tensor | None = None
    ) -> None:
        """Write ReLU(factor · x + shift) of columns, or its product with w."""
        with self.uncounted():
            x = torch.cat([data[:, a:b] for a, b, _ in windows], 1)
            z = torch.addcmul(affine[1], x, affine[0]).relu_()
            y.copy_(z if w is None else z @ w)
            self._count(x, y, *affine, w)

    def backward(
        self,
        g: Tensor,
        data: Tensor,
        grad: Tensor | None,
        windows: Windows,
        affine: Affine,
        add: bool,
        w: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Write, or add to, gradients of columns; return those of shift, factor and w."""
        with self.uncounted():
            x = torch.cat([data[:, a:b] for a, b, _ in windows], 1)
            z = torch.addcmul(affine[1], x, affine[0])
            grad_z = (g if w is None else g @ w) * (z > 0)
            for a, b, at in windows if grad is not None else ():
                part = grad_z[:, at : at + b - a] * affine[0][at : at + b - a]
                grad[:, a:b] = part + grad[:, a:b] if add else part
            grad_w = None if w is None else g.t() @ z.relu()
            self._count(x, g, *([x] if grad is not None else []), *([x] if add else []), *affine, w)
            # Programs write sums over their shares, which are read and added; each window reads g.
            outputs = 0 if w is None else g.shape[1]
            shares = min(-(-(2**16 if w is None else 2**14) // x.shape[1]), -(-len(data) // 32))
            self.total += 2 * shares * (2 + outputs) * x.shape[1] * affine[0].itemsize
            self._count(*([] if w is None else [g] * (len(windows) - 1)))
            return torch.stack((grad_z.sum(0), (grad_z * x).sum(0))), grad_w

    def by_moments(
        self, data: Tensor, g: Tensor, slope: Tensor, offset: Tensor, affine: Affine | None = None
    ) -> Tensor:
        """Add slope · x + offset to the gradient of columns, or of ReLU(affine)."""
        with self.uncounted():
            if affine is not None:
                g = g * (torch.addcmul(affine[1], data, affine[0]) > 0) * affine[0]
            self._count(data, g, data, slope, offset, *(affine or ()))
            return torch.addcmul(offset, data, slope).add_(g)

    def copy_with_moments(
        self, x: Tensor, columns: Tensor, moments: Tensor, norm: nn.BatchNorm2d
    ) -> None:
        """Write maps into columns, and their means and variances; move the running ones."""
        with self.uncounted():
            columns.copy_(x)
            moments.copy_(torch.stack(torch.var_mean(x, 0, correction=0)[::-1]))
            unbiased = moments[1] * (len(x) / (len(x) - 1))
            for running, moment in zip(norm.buffers(), (moments[0], unbiased), strict=True):
                running.lerp_(moment, norm.momentum or 0.0)
            self._count(x, columns, *moments, *norm.buffers(), *norm.buffers())
            tile = {16: 256, 32: 128}.get(max(16, 1 << (x.shape[1] - 1).bit_length()), 64)
            shares = min(-(-(2**15) // x.shape[1]), -(-len(x) // tile))
            # Means and sums of squares are written and read, and the means read once more.
            self.total += shares * 5 * x.shape[1] * moments.itemsize

    def _count(self, *tensors: Tensor | None) -> None:
        self.total += sum(each.numel() * each.itemsize for each in tensors if each is not None)
