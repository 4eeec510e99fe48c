"""The bytes of the values of a training pass."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.types import MaskType, MomentsType, Param, WeightsType

_POSITION = 8  # bytes of the index that a max pool saves for each output


@dataclass(frozen=True)
class Precision:
    """Bytes of an element: of maps and vectors, of batch statistics, of parameters."""

    maps: int
    statistics: int
    parameters: int


PRECISIONS = {
    "float32": Precision(4, 4, 4),
    "bfloat16": Precision(2, 4, 4),
    "float16": Precision(2, 4, 4),
    "float64": Precision(8, 8, 8),
}
"""The precision of each dtype: the 16-bit ones with autocast, where parameters stay float32."""


def precision_of(dtype: str) -> Precision:
    """Return the precision of a dtype.

    Raises:
        UsageError: there is no such dtype.
    """
    if dtype not in PRECISIONS:
        raise UsageError(f"there is no dtype {dtype!r}; known: {', '.join(PRECISIONS)}")
    return PRECISIONS[dtype]


@dataclass(frozen=True)
class Sizes:
    """Bytes of the values in a training pass, for a batch of images."""

    precision: Precision
    batch: int

    @property
    def casts(self) -> bool:
        """Whether parameters are cast to the precision of maps."""
        return self.precision.maps != self.precision.parameters

    def is_fixed(self, value: Value) -> bool:
        """Return whether the size of a value does not depend on the batch."""
        is_fixed = isinstance(value.type, MomentsType | WeightsType)
        return is_fixed or value.type == MaskType(per_image=False)

    def of(self, value: Value) -> int:
        """Return the bytes of a value."""
        if isinstance(value.type, MomentsType):
            return self.statistics(2 * value.type.channels)
        if value.type == MaskType(per_image=False):
            return self.precision.maps
        if isinstance(value.type, WeightsType):
            return value.type.count * self.precision.maps
        return value.type.elements * self.batch * self.precision.maps

    def maps(self, count: int) -> int:
        """Return the bytes of elements of maps."""
        return count * self.precision.maps

    def positions(self, value: Value) -> int:
        """Return the bytes of an index for each element of a value."""
        return value.type.elements * self.batch * _POSITION

    def statistics(self, count: int) -> int:
        """Return the bytes of batch statistics."""
        return count * self.precision.statistics

    def parameter(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a parameter, or a part of one."""
        return prod(shape) * self.precision.parameters

    def cast(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a parameter, cast to the precision of maps."""
        return prod(shape) * self.precision.maps

    def storage(self, param: Param) -> int:
        """Return the bytes of a parameter's storage."""
        return self.parameter(param.shape)
