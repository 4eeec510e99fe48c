"""Inference of a spec from a file with torchvision's names: a ResNet or a DenseNet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.weights.shares import compression_of
from cliquegraph.weights.source import TensorInfo

EXPANSION = 4
"""Ratio of a ResNet bottleneck's output channels to those of its 3×3 convolution."""

_LAYER = r"features\.denseblock{b}\.denselayer(\d{{1,4}})\."

Shape = tuple[int, ...]


def has_torchvision_names(infos: Mapping[str, TensorInfo]) -> bool:
    """Return whether tensors have the names of torchvision's ResNets or DenseNets."""
    return any(name.startswith(("layer1.", "features.denseblock1.")) for name in infos)


def torchvision_document(infos: Mapping[str, TensorInfo], place: str) -> dict[str, Any]:
    """Return the spec implied by shapes, as plain data without a name.

    What shapes do not determine is taken from torchvision's ImageNet models: images of 224×224, a
    stem of stride 2 with a pool, blocks of stride 2 except the first. A stem with a 3×3 convolution
    is taken as that of a CIFAR model: images of 32×32, no stride and no pool. Bottlenecks have
    their stride in the 3×3 convolution. Shapes are not checked for consistency here.

    Raises:
        WeightsError: it is neither a ResNet nor a DenseNet that the language can express.
    """
    shapes = {name: each.shape for name, each in infos.items()}
    is_resnet = any(name.startswith("layer1.") for name in shapes)
    return (_ResNet if is_resnet else _DenseNet)(shapes, place).document()


def untold(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield comments on the parts of a document that shapes do not determine."""
    model = "ImageNet" if document["stem"].get("pool") else "CIFAR"
    yield f"Shapes do not determine images, strides and pools: these are those of {model} models."
    if document["block_defaults"].get("unit") == "bottleneck":
        yield "Bottlenecks have their stride in the 3×3 convolution, as in torchvision and timm. In"
        yield "files converted from Caffe the first 1×1 has it: add reduce_in: first to"
        yield "block_defaults."


class _Implied:
    stem_conv: str
    classifier: str

    def __init__(self, shapes: Mapping[str, Shape], place: str) -> None:
        self._shapes = shapes
        self._place = place

    def _document(self, **sections: Any) -> dict[str, Any]:
        """The sections common to both, with additional ones."""
        filters, channels, height, width = self._shape(f"{self.stem_conv}.weight", 4)
        if height % 2 == 0 or height != width:
            raise self._no(f"{self.stem_conv}.weight is not a square kernel of odd size")
        stem: dict[str, Any] = {"filters": filters, "kernel": height}
        side = 32
        if height > 3:
            pool = {"kind": "max", "kernel": 3, "stride": 2}
            stem, side = {**stem, "stride": 2, "pool": pool}, 224
        return {
            "cliquegraph": 1,
            "input": {"channels": channels, "height": side, "width": side},
            "stem": {**stem, "norm": True, "init": "fan_out"},
            **sections,
            "classifier": {"classes": self._shape(f"{self.classifier}.weight", 2)[0]},
        }

    def _count(self, pattern: str, first: int) -> int:
        """The count of indices that a pattern matches, which must be consecutive from ``first``."""
        numbers = {int(match[1]) for name in self._shapes if (match := re.match(pattern, name))}
        if not numbers or numbers != set(range(first, first + len(numbers))):
            keys = re.sub(r"\(.*?\)", "N", pattern).replace("\\", "")
            raise self._no(f"its keys {keys} are not numbered consecutively from {first}")
        return len(numbers)

    def _shape(self, name: str, dimensions: int) -> Shape:
        shape = self._shapes.get(name)
        if shape is None:
            raise self._no(f"it has no {name}")
        if len(shape) != dimensions or 0 in shape:
            raise self._no(f"{name} has shape {shape}")
        return shape

    def _no(self, why: str) -> WeightsError:
        kind = type(self).__name__.removeprefix("_")
        return WeightsError(f"{self._place} is not a {kind} in torchvision's format: {why}")


class _ResNet(_Implied):
    stem_conv, classifier = "conv1", "fc"

    def document(self) -> dict[str, Any]:
        blocks = [self._block(b) for b in range(1, self._blocks + 1)]
        defaults = {"kind": "residual", "unit": "bottleneck" if self._is_bottleneck else "basic"}
        if self._pads:
            defaults["shortcut"] = "pad"
        return self._document(
            block_defaults=defaults,
            blocks=blocks,
            transition="none",
            readout={"blocks": "last", "norm": False},
        )

    @cached_property
    def _blocks(self) -> int:
        return self._count(r"layer(\d{1,4})\.", 1)

    @cached_property
    def _is_bottleneck(self) -> bool:
        return "layer1.0.conv3.weight" in self._shapes

    def _block(self, b: int) -> dict[str, Any]:
        filters, inputs = self._shape(f"layer{b}.0.conv2.weight", 4)[:2]
        if inputs != filters:
            raise self._no(
                f"layer{b}.0.conv2.weight reads {inputs} channels and writes {filters}: grouped "
                "convolutions, as in ResNeXt, are not in the language"
            )
        written = self._written(b)
        expected = filters * EXPANSION if self._is_bottleneck else filters
        if written != expected:
            raise self._no(
                f"layer{b}.0.conv3.weight writes {written} channels, not {EXPANSION} times the "
                f"{filters} of conv2: wide bottlenecks are not in the language"
            )
        stride = {} if b not in self._strided else {"stride": 2}
        return {"layers": self._count(rf"layer{b}\.(\d{{1,4}})\.", 0), "filters": filters, **stride}

    def _written(self, b: int) -> int:
        last = 3 if self._is_bottleneck else 2
        return self._shape(f"layer{b}.0.conv{last}.weight", 4)[0]

    @cached_property
    def _projected(self) -> frozenset[int]:
        """The blocks whose first shortcut is a projection."""
        every = range(1, self._blocks + 1)
        return frozenset(b for b in every if f"layer{b}.0.downsample.0.weight" in self._shapes)

    @cached_property
    def _widening(self) -> frozenset[int]:
        """The blocks that change the number of channels."""
        stem = self._shape("conv1.weight", 4)[0]
        widths = [stem, *map(self._written, range(1, self._blocks + 1))]
        return frozenset(b for b, (x0, x) in enumerate(pairwise(widths), 1) if x0 != x)

    @cached_property
    def _pads(self) -> bool:
        """Whether shortcuts that change the number of channels have no kernel."""
        if not self._widening or self._widening <= self._projected:
            return False
        if self._projected:
            (b, *_) = sorted(self._widening - self._projected)
            raise self._no(f"layer{b} has no downsample, but others have one")
        return True

    @cached_property
    def _strided(self) -> frozenset[int]:
        """The blocks of stride 2: those after the first whose shortcut is not the identity.

        The first block is one too if it has a projection although its channels do not change.
        """
        changed = (self._widening if self._pads else self._projected) - {1}
        return changed | (frozenset({1}) & (self._projected - self._widening))


class _DenseNet(_Implied):
    stem_conv, classifier = "features.conv0", "classifier"

    def document(self) -> dict[str, Any]:
        blocks = self._count(r"features\.denseblock(\d{1,4})\.", 1)
        growths = {self._growth(b) for b in range(1, blocks + 1)}
        if len(growths) > 1:
            raise self._no("its blocks differ in growth rate or bottleneck")
        ((filters, bottleneck),) = growths
        return self._document(
            block_defaults={"kind": "dense", "filters": filters, "bottleneck": bottleneck},
            blocks=[{"layers": self._count(_LAYER.format(b=b), 1)} for b in range(1, blocks + 1)],
            transition=self._transition(blocks),
            readout={"blocks": "last"},
        )

    def _growth(self, b: int) -> tuple[int, int]:
        """The growth rate and the factor of the bottleneck."""
        layer = f"features.denseblock{b}.denselayer1."
        dot = "." if f"{layer}conv.1.weight" in self._shapes else ""
        wide = self._shape(f"{layer}conv{dot}1.weight", 4)[0]
        growth = self._shape(f"{layer}conv{dot}2.weight", 4)[0]
        if wide % growth:
            raise self._no(
                f"a bottleneck of {wide} channels is not a multiple of the growth rate {growth}"
            )
        return growth, wide // growth

    def _transition(self, blocks: int) -> dict[str, Any]:
        kernels = [self._shape(f"features.transition{b}.conv.weight", 4) for b in range(1, blocks)]
        factor = compression_of([(i, o) for o, i, *_ in kernels]) if kernels else 1.0
        if factor is None:
            raise self._no("its transitions compress their channels by different factors")
        return {} if factor == 1 else {"compression": factor}
