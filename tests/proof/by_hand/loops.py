"""Networks with loops as somebody might write them: RCNN, a chain of areas, and a small BLT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RecurrentLayer(nn.Module):
    """x(t) = LRN(ReLU(W_f u + W_r x(t-1) + b)), from x(0) = LRN(ReLU(W_f u + b))."""

    def __init__(self, channels: int, k: int, steps: int) -> None:
        super().__init__()
        self.feed = nn.Conv2d(channels, k, 3, padding=1, bias=False)
        self.recur = nn.Conv2d(k, k, 3, padding=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(k))
        self.lrn = nn.LocalResponseNorm(3, alpha=0.001, beta=0.75)
        self.steps = steps

    def activate(self, x: Tensor, step: int) -> Tensor:
        return self.lrn(F.relu(x + self.bias[:, None, None]))

    def forward(self, u: Tensor) -> Tensor:
        x = self.activate(self.feed(u), 0)
        for step in range(1, self.steps + 1):
            x = self.activate(self.feed(u) + self.recur(x), step)
        return x


class RCNN(nn.Module):
    layer: type[RecurrentLayer] = RecurrentLayer

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.rcl = self.layer(4, 4, 2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rcl(self.conv(x)).mean((2, 3)))


RCNN_MAP = """
stem.conv.weight: conv.weight
block1.w0_1.weight: rcl.feed.weight
block1.w1_1.weight: rcl.recur.weight
block1.x1.bias: rcl.bias
classifier: fc
"""


class BLT(nn.Module):
    """Three areas in a row, and a skip from the last back to the first, in three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.enter = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.up1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.up2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.down = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(9))
        self.fc = nn.Linear(4, 5)

    def back(self, v4: Tensor, step: int) -> Tensor | None:
        return self.down(v4)

    def norm(self, x: Tensor, step: int, area: int) -> Tensor:
        return F.relu(self.norms[3 * step + area](x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        v4 = None
        for step in range(3):
            entering = self.enter(x)
            returned = None if v4 is None else self.back(v4, step)
            if returned is not None:
                entering = entering + returned
            v1 = self.norm(entering, step, 0)
            v2 = self.norm(self.up1(v1), step, 1)
            v4 = self.norm(self.up2(v2), step, 2)
        return self.fc(v4.mean((2, 3)))


BLT_MAP = """
stem.conv.weight: conv.weight
block1.w0_1.weight: enter.weight
block1.w1_2.weight: up1.weight
block1.w2_3.weight: up2.weight
block1.w3_1.weight: down.weight
block1.x{j}.s{s}.norm1: norms.{3*(s-1)+j-1}
classifier: fc
"""


class Area(nn.Module):
    """A residual area that visits its kernels twice, as in CORnet-S; the stride is in step 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False)
        self.skip = nn.Conv2d(4, 4, 1, stride=2, bias=False)
        self.skip_norm = nn.BatchNorm2d(4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))

    def strides(self, step: int) -> int:
        return 2 if step == 0 else 1

    def forward(self, x: Tensor) -> Tensor:
        for step in range(2):
            self.conv1.stride = (self.strides(step),) * 2
            branch = self.norms[step](self.conv1(x))
            if step == 0:
                shortcut = self.skip_norm(self.skip(x))
            else:
                shortcut = x[:, :, :: self.strides(step), :: self.strides(step)]
            x = F.relu(shortcut + branch)
        return x


class AreaNet(nn.Module):
    area: type[Area] = Area

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.it = self.area()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.it(self.conv(x)).mean((2, 3)))


AREA_MAP = """
stem.conv: conv
block1.v1: it.conv1
block1.x1.s1.shortcut.conv: it.skip
block1.x1.s1.shortcut.norm: it.skip_norm
block1.x1.s{s}.norm1: it.norms.{s-1}
classifier: fc
"""
