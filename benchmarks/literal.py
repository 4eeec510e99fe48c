"""A CliqueNet in PyTorch, written by hand: what the benchmarks compare generated code with.

LABEL: this is not the authors' code. It was written here, in the style of their public ImageNet
code, from the description of the network alone: one parameter for each W(i→j), and at every
update the feature maps are concatenated and so are the kernels, then BatchNorm2d, an in-place
ReLU and one convolution. It is what a careful person would write who has no compiler.

It covers pre-activation clique blocks of two stages, updated alternately in ascending order, with
or without bottleneck, attention, compression and the ImageNet stem; dropout it does not have.
``tests/benchmarks/test_literal.py`` proves that it computes what the compiler's networks compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.ir.ops import compressed, squeezed
from cliquegraph.spec.schema import CliqueBlock

Named = Iterator[tuple[str, Tensor]]


def he_kernel(filters: int, channels: int, size: int) -> nn.Parameter:
    """One kernel W(i→j) or V(j), He-initialised by its own fan-in."""
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


def side_by_side(parts: list[Tensor]) -> Tensor:
    """Concatenation along channels, of maps or of kernels; one alone is no copy."""
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class Stem(nn.Module):
    """Convolution, with BN and ReLU, and a max pool, where the spec has them."""

    def __init__(self, network: NetworkSpec) -> None:
        super().__init__()
        stem = network.stem
        self.conv = he_conv(network.input.channels, stem.filters, stem.kernel, stem.stride)
        self.norm = nn.BatchNorm2d(stem.filters) if stem.norm else None
        self.pool = stem.pool and nn.MaxPool2d(
            stem.pool.kernel, stem.pool.stride, (stem.pool.kernel - 1) // 2
        )

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
    """One clique block: n layers of k filters over X0, initialised, then updated once more."""

    def __init__(self, spec: CliqueBlock, channels: int) -> None:
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
        # In place, as updates alternate: what stage 1 wrote is read by stage 2 alone.
        for j in self.layers:
            maps[j] = self.update(maps, [i for i in self.layers if i != j], j, stage=2)
        layers = [maps[j] for j in self.layers]
        return torch.cat([x0, *layers], 1), torch.cat(layers, 1)

    def update(self, maps: dict[int, Tensor], sources: Sequence[int], j: int, stage: int) -> Tensor:
        x = side_by_side([maps[i] for i in sources])
        w = side_by_side([self.kernels[f"w{i}_{j}"] for i in sources])
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

    def __init__(self, channels: int, attention: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = he_conv(channels, channels, 1)
        self.attention = attention
        if attention:
            self.fc1 = xavier_linear(channels, squeezed(channels))
            self.fc2 = xavier_linear(squeezed(channels), channels)

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
    """The whole network, of any spec that ``uncovered`` has nothing against."""

    def __init__(self, network: NetworkSpec) -> None:
        super().__init__()
        self.stem = Stem(network)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        self.readouts = nn.ModuleList()
        channels, factor = network.stem.filters, network.readout.compression
        for spec in network.blocks:
            if self.blocks:
                self.transitions.append(Transition(channels, network.transition.attention))
            self.blocks.append(Clique(spec, channels))
            transit = spec.layers * spec.filters
            feature = channels + transit
            filters = None if factor is None else compressed(feature, factor)
            self.readouts.append(Readout(feature, filters))
            channels = transit
        pooled = sum(readout.channels for readout in self.readouts)
        self.classifier = xavier_linear(pooled, network.classifier.classes)

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


def literal_model(network: NetworkSpec) -> LiteralCliqueNet:
    """Return the network as a person would have written it.

    Raises:
        UsageError: the spec asks for something that the model does not have; says what.
    """
    lacking = list(uncovered(network))
    if lacking:
        listed = "; ".join(lacking)
        raise UsageError(f"the literal model does not cover {network.name}: {listed}")
    return LiteralCliqueNet(network)


def load_canonical(model: LiteralCliqueNet, tensors: Mapping[str, NDArray[np.floating]]) -> None:
    """Set every parameter and running statistic from canonical tensors.

    Raises:
        WeightsError: ``tensors`` are not those of the network.
    """
    held = dict(model.canonical())
    if held.keys() != tensors.keys():
        odd = ", ".join(sorted(held.keys() ^ tensors.keys()))
        raise WeightsError(f"missing from the weights, or unknown to the literal model: {odd}")
    with torch.no_grad():
        for name, tensor in held.items():
            if tensor.shape != tensors[name].shape:
                shapes = f"{tensors[name].shape}, must be {tuple(tensor.shape)}"
                raise WeightsError(f"{name} is {shapes}")
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))


def uncovered(network: NetworkSpec) -> Iterator[str]:
    """Yield what a spec asks for that the literal model does not have."""
    covered: list[tuple[str, object, object]] = []
    for index, block in enumerate(network.blocks):
        name = f"blocks.{index}"
        if not isinstance(block, CliqueBlock):
            yield f"{name} is a {block.kind} block, only cliques are covered"
            continue
        ascending = tuple(range(1, block.layers + 1))
        covered += [
            (f"{name}.dropout", block.dropout, 0.0),
            (f"{name}.unit", block.unit, "pre_activation"),
            (f"{name}.stages", block.stages, 2),
            (f"{name}.update", block.update, "alternate"),
            (f"{name}.order", block.visiting_order, ascending),
            (f"{name}.last_stage_updates", block.updates_in(block.stages), block.layers),
            (f"{name}.feature", block.feature_stage, block.stages),
            (f"{name}.transit", block.transit_stage, block.stages),
        ]
    if network.stem.pool is not None:
        covered.append(("stem.pool.kind", network.stem.pool.kind, "max"))
    covered += [
        ("transition.compression", network.transition.compression, 1.0),
        ("transition.pool", network.transition.pool, "avg"),
        ("transition.dropout", network.transition.dropout, 0.0),
        ("readout.blocks", network.readout.blocks, "all"),
        ("readout.dropout", network.readout.dropout, 0.0),
    ]
    for key, found, only in covered:
        if found != only:
            yield f"{key} is {found}, only {only} is covered"
