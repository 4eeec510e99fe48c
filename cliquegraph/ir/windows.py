"""Operations that change the size of maps, and the sizes of windows."""

from __future__ import annotations

from dataclasses import dataclass

from cliquegraph.ir.op import Op, Types, map_type
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import MapType, VectorType


@dataclass(frozen=True)
class MaxPool(Op):
    """Maximum of each window; ``padding`` elements around the map are -inf."""

    mnemonic = "max_pool"
    kernel: int
    stride: int
    padding: int = 0

    def infer(self, inputs: Types) -> Types:
        value = map_type(inputs[0])
        if 2 * self.padding > self.kernel:
            raise ShapeError(
                f"a max pool of {self.kernel}×{self.kernel} can't be padded by {self.padding}",
                "pad by at most half of the window",
            )
        return (windows(value, self.kernel, self.stride, self.padding, value.channels),)


@dataclass(frozen=True)
class AvgPool(Op):
    """Mean of each window; not padded."""

    mnemonic = "avg_pool"
    kernel: int
    stride: int

    def infer(self, inputs: Types) -> Types:
        value = map_type(inputs[0])
        return (windows(value, self.kernel, self.stride, 0, value.channels),)


@dataclass(frozen=True)
class GlobalAvgPool(Op):
    """Mean of each map."""

    mnemonic = "global_avg_pool"

    def infer(self, inputs: Types) -> Types:
        return (VectorType(map_type(inputs[0]).channels),)


@dataclass(frozen=True)
class GlobalMean(Op):
    """Mean of each map, as a map of one pixel: what a convolution can read."""

    mnemonic = "global_mean"

    def infer(self, inputs: Types) -> Types:
        return (MapType(map_type(inputs[0]).channels, 1, 1),)


@dataclass(frozen=True)
class GlobalMaxPool(Op):
    """Maximum of each map. Where it is reached several times, the first has the gradient."""

    mnemonic = "global_max_pool"

    def infer(self, inputs: Types) -> Types:
        return (VectorType(map_type(inputs[0]).channels),)


@dataclass(frozen=True)
class Upsample(Op):
    """Each pixel becomes factor × factor equal ones."""

    mnemonic = "upsample"
    factor: int

    def infer(self, inputs: Types) -> Types:
        maps = map_type(inputs[0])
        return (MapType(maps.channels, maps.height * self.factor, maps.width * self.factor),)


@dataclass(frozen=True)
class Zeros(Op):
    """Zeros of the shape that a window of the input's maps would have, and the input's batch.

    What a layer starts from that reads nothing in stage 1. The input is read for its shape only.
    """

    mnemonic = "zeros"
    widths = ("filters",)
    filters: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0

    def infer(self, inputs: Types) -> Types:
        value = map_type(inputs[0])
        return (windows(value, self.kernel, self.stride, self.padding, self.filters),)


def windows(value: MapType, kernel: int, stride: int, padding: int, channels: int) -> MapType:
    """Return the type of the output of windows of ``kernel`` at every ``stride`` of padded maps."""
    height, width = (
        (size + 2 * padding - kernel) // stride + 1 for size in (value.height, value.width)
    )
    if height < 1 or width < 1:
        raise ShapeError(
            f"a {value.height}×{value.width} map is smaller than a window of {kernel}×{kernel}",
            "take larger images, or fewer blocks, strides or pools before it",
        )
    return MapType(channels, height, width)
