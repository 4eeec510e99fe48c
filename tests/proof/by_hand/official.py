"""A CliqueNet with bottlenecks whose tensors have the names of the authors' ImageNet model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A clique of n layers of k filters, in two stages."""

    def __init__(self, channels: int, n: int, k: int) -> None:
        super().__init__()
        self.n = n
        pairs = ((i, j) for i in range(n + 1) for j in range(n + 1))
        self.conv_param = nn.ModuleList(
            nn.Conv2d(k if i else channels, k, 1, bias=False) if j and i != j else nn.Identity()
            for i, j in pairs
        )
        self.conv_param_bottle = nn.ModuleList(
            nn.Conv2d(k, k, 3, padding=1, bias=False) for _ in range(n)
        )
        self.forward_bn = nn.ModuleList(nn.BatchNorm2d(channels + j * k) for j in range(n))
        self.forward_bn_b = nn.ModuleList(nn.BatchNorm2d(k) for _ in range(n))
        self.loop_bn = nn.ModuleList(nn.BatchNorm2d((n - 1) * k) for _ in range(n))
        self.loop_bn_b = nn.ModuleList(nn.BatchNorm2d(k) for _ in range(n))

    def update(
        self, maps: list[Tensor], sources: list[int], j: int, bn: nn.Module, bn_b: nn.Module
    ) -> Tensor:
        convs = [self.conv_param[i * (self.n + 1) + j] for i in sources]
        w = torch.cat([conv.weight for conv in convs], 1)
        x = F.conv2d(F.relu(bn(torch.cat([maps[i] for i in sources], 1))), w)
        x = F.relu(bn_b(x))
        conv: nn.Conv2d = self.conv_param_bottle[j - 1]  # type: ignore[assignment]
        return conv(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = [x]
        for j in range(1, self.n + 1):
            norms = self.forward_bn[j - 1], self.forward_bn_b[j - 1]
            maps.append(self.update(maps, list(range(j)), j, *norms))
        for j in range(1, self.n + 1):
            others = [i for i in range(1, self.n + 1) if i != j]
            # As the authors' loop: the latest version of each of the others, the oldest first.
            maps[j] = self.update(maps, others, j, self.loop_bn[j - 1], self.loop_bn_b[j - 1])
        return torch.cat(maps, 1), torch.cat(maps[1:], 1)


class Attention(nn.Module):
    """Channel attention: a factor for each map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 2)
        self.fc2 = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return x * z[:, :, None, None]


class NormConv(nn.Module):
    """BN, ReLU, and a 1×1 convolution."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, filters, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.relu(self.bn(x)))
        return y


class Transition(NormConv):
    """To the next block: attention behind the convolution, then a pool."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)
        self.attention = Attention(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.attention(super().forward(x)), 2)


class Pooled(nn.Module):
    """BN, ReLU, and the mean of each map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x)).mean((2, 3))


class CliqueNet(nn.Module):
    """Blocks of (layers, filters) behind a stem of 4 filters."""

    blocks = ((3, 2), (2, 4))

    def __init__(self) -> None:
        super().__init__()
        self.fir_trans = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)
        self.fir_bn = nn.BatchNorm2d(4)
        self.list_block, self.list_trans = nn.ModuleList(), nn.ModuleList()
        self.list_compress, self.list_gb = nn.ModuleList(), nn.ModuleList()
        channels, width = 4, 0
        for b, (n, k) in enumerate(self.blocks):
            self.list_block.append(Block(channels, n, k))
            half = (channels + n * k) // 2
            self.list_compress.append(NormConv(channels + n * k, half))
            self.list_gb.append(Pooled(half))
            channels, width = n * k, width + half
            if b < len(self.blocks) - 1:
                self.list_trans.append(Transition(channels))
        self.fc = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.fir_bn(self.fir_trans(x))), 3, stride=2, padding=1)
        pooled = []
        for b, block in enumerate(self.list_block):
            feature, x = block(x)
            pooled.append(self.list_gb[b](self.list_compress[b](feature)))
            if b < len(self.list_trans):
                x = self.list_trans[b](x)
        logits: Tensor = self.fc(torch.cat(pooled, 1))
        return logits


class NotUpdated(CliqueNet):
    """Stage 2 reads stage 1 alone: the copy of a list is read, which nothing updates."""

    def __init__(self) -> None:
        super().__init__()
        for block in self.list_block:
            block.__class__ = Once


class Once(Block):
    """In stage 2 all layers are updated at once."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = [x]
        for j in range(1, self.n + 1):
            norms = self.forward_bn[j - 1], self.forward_bn_b[j - 1]
            maps.append(self.update(maps, list(range(j)), j, *norms))
        first = list(maps)
        for j in range(1, self.n + 1):
            others = [i for i in range(1, self.n + 1) if i != j]
            maps[j] = self.update(first, others, j, self.loop_bn[j - 1], self.loop_bn_b[j - 1])
        return torch.cat(maps, 1), torch.cat(maps[1:], 1)
