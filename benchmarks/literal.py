"""A hand-written CliqueNet in PyTorch: the baseline of the benchmarks.

NOTE: this is not the authors' code. It was written for this project, in the style of their public
ImageNet code, from the description of the network alone: one parameter for each W(i→j); every
update concatenates feature maps and kernels, then applies BatchNorm2d, an in-place ReLU and one
convolution. It is what a careful person would write without a compiler.

It covers pre-activation clique blocks of two stages, updated alternately in ascending order, with
or without bottleneck, attention, compression and the ImageNet stem, and without dropout.
``tests/benchmarks/test_literal.py`` tests that it computes the same as the compiled networks.

It needs only PyTorch, so it runs without the compiler; ``literal_spec`` converts the compiler's
specs for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Named = Iterator[tuple[str, Tensor]]


@dataclass(frozen=True)
class LiteralStem:
    """A convolution; ``pool`` is the kernel and stride of a max pool."""

    filters: int
    kernel: int
    stride: int
    norm: bool
    pool: tuple[int, int] | None


@dataclass(frozen=True)
class LiteralBlock:
    """A clique block; ``compressed``: the channels of its feature after compression."""

    layers: int
    filters: int
    kernel: int
    bottleneck: bool
    compressed: int | None


@dataclass(frozen=True)
class LiteralSpec:
    """The description of a network as plain data, which JSON can represent.

    ``attention``: the channels between the two linear layers of each transition; empty without.
    """

    channels: int
    stem: LiteralStem
    blocks: tuple[LiteralBlock, ...]
    attention: tuple[int, ...]
    classes: int

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> LiteralSpec:
        """Return the inverse of ``dataclasses.asdict``."""
        stem, blocks = LiteralStem(**data["stem"]), data["blocks"]
        rest = {"stem": stem, "blocks": tuple(LiteralBlock(**block) for block in blocks)}
        return cls(**{**data, **rest})


def he_kernel(filters: int, channels: int, size: int) -> nn.Parameter:
    """One kernel W(i→j) or V(j), He-initialized with its own fan-in."""
    kernel = torch.empty(filters, channels, size, size)
    nn.init.kaiming_normal_(kernel, nonlinearity="relu")
    return nn.Parameter(kernel)


def he_conv(channels: int, filters: int, size: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels, filters, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def xavier_linear(features: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(features, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def norm_relu(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.relu(norm(x), inplace=True)


def concatenate(parts: list[Tensor]) -> Tensor:
    """Concatenate maps or kernels along channels; a single one is not copied."""
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class Stem(nn.Module):
    """Convolution, with BN and ReLU, and a max pool, where the spec has them."""

    def __init__(self, spec: LiteralStem, channels: int) -> None:
        super().__init__()
        self.conv = he_conv(channels, spec.filters, spec.kernel, spec.stride)
        self.norm = nn.BatchNorm2d(spec.filters) if spec.norm else None
        self.pool = None
        if spec.pool is not None:
            kernel, stride = spec.pool
            self.pool = nn.MaxPool2d(kernel, stride, (kernel - 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = norm_relu(self.norm, x)
        if self.pool is not None:
            x = self.pool(x)
        return x

    def canonical(self, name: str) -> Named:
        yield f"{name}.conv.weight", self.conv.weight
        if self.norm is not None:
            yield from norm_tensors(f"{name}.norm", self.norm)


class Clique(nn.Module):
    """One clique block: n layers of k filters over X0, initialized, then updated once more."""

    def __init__(self, spec: LiteralBlock, channels: int) -> None:
        super().__init__()
        n, k = spec.layers, spec.filters
        self.layers = range(1, n + 1)
        size = 1 if spec.bottleneck else spec.kernel
        self.kernels = nn.ParameterDict(
            {
                f"w{i}_{j}": he_kernel(k, k if i else channels, size)
                for j in self.layers
                for i in range(n + 1)
                if i != j
            }
        )
        self.first_norms = nn.ModuleList(nn.BatchNorm2d(channels + k * j) for j in range(n))
        self.loop_norms = nn.ModuleList(nn.BatchNorm2d(k * (n - 1)) for _ in self.layers)
        self.bottleneck = spec.bottleneck
        if spec.bottleneck:
            self.spatial = nn.ParameterList(he_kernel(k, k, spec.kernel) for _ in self.layers)
            self.first_mid_norms = nn.ModuleList(nn.BatchNorm2d(k) for _ in self.layers)
            self.loop_mid_norms = nn.ModuleList(nn.BatchNorm2d(k) for _ in self.layers)

    def forward(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        maps = {0: x0}
        for j in self.layers:
            maps[j] = self.update(maps, range(j), j, stage=1)
        # In place, since updates alternate: only stage 2 reads the features of stage 1.
        for j in self.layers:
            maps[j] = self.update(maps, [i for i in self.layers if i != j], j, stage=2)
        layers = [maps[j] for j in self.layers]
        return torch.cat([x0, *layers], 1), torch.cat(layers, 1)

    def update(self, maps: dict[int, Tensor], sources: Sequence[int], j: int, stage: int) -> Tensor:
        x = concatenate([maps[i] for i in sources])
        w = concatenate([self.kernels[f"w{i}_{j}"] for i in sources])
        x = norm_relu((self.first_norms if stage == 1 else self.loop_norms)[j - 1], x)
        x = F.conv2d(x, w, padding=w.shape[-1] // 2)
        if self.bottleneck:
            v = self.spatial[j - 1]
            mid_norms = self.first_mid_norms if stage == 1 else self.loop_mid_norms
            x = norm_relu(mid_norms[j - 1], x)
            x = F.conv2d(x, v, padding=v.shape[-1] // 2)
        return x

    def canonical(self, name: str) -> Named:
        for key, kernel in self.kernels.items():
            yield f"{name}.{key}.weight", kernel
        for j in self.layers:
            yield from norm_tensors(f"{name}.x{j}.s1.norm", self.first_norms[j - 1])
            yield from norm_tensors(f"{name}.x{j}.s2.norm", self.loop_norms[j - 1])
            if self.bottleneck:
                yield f"{name}.v{j}.weight", self.spatial[j - 1]
                yield from norm_tensors(f"{name}.x{j}.s1.mid_norm", self.first_mid_norms[j - 1])
                yield from norm_tensors(f"{name}.x{j}.s2.mid_norm", self.loop_mid_norms[j - 1])


class Transition(nn.Module):
    """BN, ReLU, 1×1 convolution, attention where the spec has it, 2×2 average pool."""

    def __init__(self, channels: int, attention: int | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = he_conv(channels, channels, 1)
        self.attention = attention is not None
        if attention is not None:
            self.fc1 = xavier_linear(channels, attention)
            self.fc2 = xavier_linear(attention, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(norm_relu(self.norm, x))
        if self.attention:
            z = F.adaptive_avg_pool2d(x, 1).flatten(1)
            z = torch.sigmoid(self.fc2(F.relu(self.fc1(z), inplace=True)))
            x = x * z[:, :, None, None]
        return F.avg_pool2d(x, 2, 2)

    def canonical(self, name: str) -> Named:
        yield from norm_tensors(f"{name}.norm", self.norm)
        yield f"{name}.conv.weight", self.conv.weight
        if self.attention:
            for part in ("fc1", "fc2"):
                linear = getattr(self, part)
                yield f"{name}.attention.{part}.weight", linear.weight
                yield f"{name}.attention.{part}.bias", linear.bias


class Readout(nn.Module):
    """Compression where the spec has it, BN, ReLU, global average pool."""

    def __init__(self, channels: int, filters: int | None) -> None:
        super().__init__()
        self.compressed = filters is not None
        if filters is not None:
            self.compress_norm = nn.BatchNorm2d(channels)
            self.compress_conv = he_conv(channels, filters, 1)
        self.channels = channels if filters is None else filters
        self.norm = nn.BatchNorm2d(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.compressed:
            x = self.compress_conv(norm_relu(self.compress_norm, x))
        return F.adaptive_avg_pool2d(norm_relu(self.norm, x), 1).flatten(1)

    def canonical(self, name: str) -> Named:
        if self.compressed:
            yield from norm_tensors(f"{name}.compress.norm", self.compress_norm)
            yield f"{name}.compress.conv.weight", self.compress_conv.weight
        yield from norm_tensors(f"{name}.norm", self.norm)


class LiteralCliqueNet(nn.Module):
    """The whole network."""

    def __init__(self, spec: LiteralSpec) -> None:
        super().__init__()
        self.stem = Stem(spec.stem, spec.channels)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        self.readouts = nn.ModuleList()
        channels = spec.stem.filters
        for index, block in enumerate(spec.blocks):
            if index:
                attention = spec.attention[index - 1] if spec.attention else None
                self.transitions.append(Transition(channels, attention))
            self.blocks.append(Clique(block, channels))
            transit = block.layers * block.filters
            self.readouts.append(Readout(channels + transit, block.compressed))
            channels = transit
        pooled = sum(readout.channels for readout in self.readouts)
        self.classifier = xavier_linear(pooled, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = []
        for index, (block, readout) in enumerate(zip(self.blocks, self.readouts, strict=True)):
            if index:
                x = self.transitions[index - 1](x)
            feature, x = block(x)
            pooled.append(readout(feature))
        return self.classifier(torch.cat(pooled, 1))

    def canonical(self) -> Named:
        """Yield every parameter and running statistic under its canonical name."""
        yield from self.stem.canonical("stem")
        for part in ("block", "transition", "readout"):
            for index, module in enumerate(getattr(self, f"{part}s"), start=1):
                yield from module.canonical(f"{part}{index}")
        yield "classifier.weight", self.classifier.weight
        yield "classifier.bias", self.classifier.bias


def norm_tensors(name: str, norm: nn.BatchNorm2d) -> Named:
    yield f"{name}.scale", norm.weight
    yield f"{name}.bias", norm.bias
    yield f"{name}.mean", norm.running_mean
    yield f"{name}.var", norm.running_var


def load_canonical(model: LiteralCliqueNet, tensors: Mapping[str, NDArray[np.floating]]) -> None:
    """Set every parameter and running statistic from canonical tensors.

    Raises:
        ValueError: ``tensors`` do not match the network.
    """
    held = dict(model.canonical())
    if held.keys() != tensors.keys():
        odd = ", ".join(sorted(held.keys() ^ tensors.keys()))
        raise ValueError(f"missing from the weights, or unknown to the literal model: {odd}")
    with torch.no_grad():
        for name, tensor in held.items():
            if tensor.shape != tensors[name].shape:
                shapes = f"{tensors[name].shape}, must be {tuple(tensor.shape)}"
                raise ValueError(f"{name} is {shapes}")
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))
