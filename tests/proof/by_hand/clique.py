"""A CliqueNet as somebody might write it: an index of features, and a list of kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Clique(nn.Module):
    """A block of n layers of k filters in two stages; ``table`` has a kernel for each pair."""

    def __init__(self, channels: int, n: int, k: int) -> None:
        super().__init__()
        self.n = n
        self.table = nn.ParameterList()
        self.slots: dict[tuple[int, int], int] = {}
        for j in range(1, n + 1):
            for i in range(n + 1):
                if i != j:
                    self.slots[i, j] = len(self.table)
                    width = k if i else channels
                    self.table.append(nn.Parameter(torch.randn(k, width, 3, 3) * 0.1))
        self.bn1 = nn.ModuleList(nn.BatchNorm2d(channels + k * j) for j in range(n))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(k * (n - 1)) for _ in range(n))

    def kernel(self, i: int, j: int) -> Tensor:
        return self.table[self.slots[i, j]]

    def update(self, maps: dict[int, Tensor], sources: list[int], j: int, bn: nn.Module) -> Tensor:
        x = torch.cat([maps[i] for i in sources], 1)
        w = torch.cat([self.kernel(i, j) for i in sources], 1)
        return F.conv2d(F.relu(bn(x)), w, padding=1)

    def stage1(self, x0: Tensor) -> dict[int, Tensor]:
        maps = {0: x0}
        for j in range(1, self.n + 1):
            maps[j] = self.update(maps, list(range(j)), j, self.bn1[j - 1])
        return maps

    def stage2(self, first: dict[int, Tensor]) -> dict[int, Tensor]:
        maps = dict(first)
        for j in range(1, self.n + 1):
            sources = [i for i in range(1, self.n + 1) if i != j]
            maps[j] = self.update(maps, sources, j, self.bn2[j - 1])
        return maps

    def outputs(self, first: dict[int, Tensor], second: dict[int, Tensor]) -> Tensor:
        return torch.cat([second[j] for j in range(self.n + 1)], 1)

    def forward(self, x0: Tensor) -> Tensor:
        first = self.stage1(x0)
        return self.outputs(first, self.stage2(first))


class CliqueNet(nn.Module):
    """One block on images of two channels."""

    block: type[Clique] = Clique

    def __init__(self, n: int = 3, k: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.clique = self.block(4, n, k)
        self.bn = nn.BatchNorm2d(4 + n * k)
        self.fc = nn.Linear(4 + n * k, 5)

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(F.relu(self.bn(self.clique(self.conv(x))))))


def clique_map(n: int = 3) -> str:
    """The weight map."""
    pairs = [(i, j) for j in range(1, n + 1) for i in range(n + 1) if i != j]
    lines = [f"block1.w{i}_{j}.weight: clique.table.{at}" for at, (i, j) in enumerate(pairs)]
    return "\n".join(
        [
            "stem.conv: conv",
            *lines,
            "block1.x{j}.s1.norm: clique.bn1.{j-1}",
            "block1.x{j}.s2.norm: clique.bn2.{j-1}",
            "readout1.norm: bn",
            "classifier: fc",
        ]
    )
