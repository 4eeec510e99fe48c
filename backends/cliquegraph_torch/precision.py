"""How many bytes the numbers of a training pass take."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.types import MaskType, MomentsType, Param

_POSITION = 8  # bytes of the position that a max pool keeps for each output


@dataclass(frozen=True)
class Precision:
    """Bytes of a number: of maps and vectors, of statistics over a batch, of parameters."""

    maps: int
    statistics: int
    parameters: int


PRECISIONS = {
    "float32": Precision(4, 4, 4),
    "bfloat16": Precision(2, 4, 4),
    "float16": Precision(2, 4, 4),
    "float64": Precision(8, 8, 8),
}
"""What a dtype means: the two of 16 bits under autocast, which leaves parameters in float32."""


def precision_of(dtype: str) -> Precision:
    """Return what a dtype means.

    Raises:
        UsageError: there is no such dtype.
    """
    if dtype not in PRECISIONS:
        raise UsageError(f"there is no dtype {dtype!r}; known: {', '.join(PRECISIONS)}")
    return PRECISIONS[dtype]


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a training pass makes, for a batch of images."""

    precision: Precision
    batch: int

    @property
    def casts(self) -> bool:
        """Whether parameters are cast to what maps are."""
        return self.precision.maps != self.precision.parameters

    def is_fixed(self, value: Value) -> bool:
        """Whether a value is as large for any batch."""
        return isinstance(value.type, MomentsType) or value.type == MaskType(per_image=False)

    def of(self, value: Value) -> int:
        """Return the bytes of a value."""
        if isinstance(value.type, MomentsType):
            return self.statistics(2 * value.type.channels)
        if value.type == MaskType(per_image=False):
            return self.precision.maps
        return value.type.elements * self.batch * self.precision.maps

    def positions(self, value: Value) -> int:
        """Return the bytes of a position for each number of a value."""
        return value.type.elements * self.batch * _POSITION

    def statistics(self, count: int) -> int:
        """Return the bytes of statistics over the batch."""
        return count * self.precision.statistics

    def parameter(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a parameter, or a part of one."""
        return prod(shape) * self.precision.parameters

    def cast(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a parameter that was cast to what maps are."""
        return prod(shape) * self.precision.maps

    def storage(self, param: Param) -> int:
        """Return the bytes that hold a parameter."""
        return self.parameter(param.shape)
