"""A small ResNet and a FractalNet of one block, as somebody might write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Unit(nn.Module):
    def __init__(self, channels: int, k: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, k, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv2 = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(k)
        self.down = None
        if stride != 1 or channels != k:
            self.down = nn.Sequential(
                nn.Conv2d(channels, k, 1, stride, bias=False), nn.BatchNorm2d(k)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.down is None else self.down(x)
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """Two blocks of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.units = nn.ModuleList([Unit(4, 4, 1), Unit(4, 4, 1), Unit(4, 6, 2), Unit(6, 6, 1)])
        self.fc = nn.Linear(6, 5)

    def units_of(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = unit(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        return self.fc(F.adaptive_avg_pool2d(self.units_of(x), 1).flatten(1))


RESNET_MAP = """
stem.conv: conv
stem.norm: bn
block{b}.v{j}_{p}: units.{2*(b-1)+j-1}.conv{p}
block{b}.x{j}.norm{p}: units.{2*(b-1)+j-1}.bn{p}
block{b}.x{j}.shortcut.conv: units.{2*(b-1)+j-1}.down.0
block{b}.x{j}.shortcut.norm: units.{2*(b-1)+j-1}.down.1
classifier: fc
"""


class Fractal(nn.Module):
    """Two columns: one unit beside two, joined by their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, 3, 3, padding=1, bias=False) for c in (4, 4, 3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def unit(self, index: int, x: Tensor) -> Tensor:
        return F.relu(self.bns[index](self.convs[index](x)))

    def join(self, columns: list[Tensor]) -> Tensor:
        return torch.stack(columns).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.join([self.unit(0, x), self.unit(2, self.unit(1, x))])


class FractalNet(nn.Module):
    fractal: type[Fractal] = Fractal

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.block = self.fractal()
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.conv(x)).mean(dim=(2, 3)))


FRACTAL_MAP = """
stem.conv: conv
block1.v{j}: block.convs.{j-1}
block1.x{j}.norm1: block.bns.{j-1}
classifier: fc
"""
