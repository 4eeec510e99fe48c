"""Named tensors, wherever they are: in a file, or in a live model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from cliquegraph.ir.storage import Array

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
FLOATS_ONLY = "weights are float16, bfloat16, float32 or float64"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return a NumPy type by its name."""
    if name == "bfloat16":
        import ml_dtypes  # NumPy has none of its own

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)


@dataclass(frozen=True)
class TensorInfo:
    """The type (``float32``) and the shape of a tensor that was not read yet."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return prod(self.shape) * numpy_dtype(self.dtype).itemsize

    @property
    def is_float(self) -> bool:
        """Whether weights may have this type."""
        return self.dtype in _FLOATS


class TensorSource(Protocol):
    """Named tensors: a file, or a live model."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What is written beside them."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Their types and shapes by name."""

    def read(self, name: str) -> Array:
        """Return one of them, of its own type."""


class LiveTensors(TensorSource, Protocol):
    """The tensors of a model in memory, by their names in its files."""

    def write(self, name: str, array: Array) -> None:
        """Set one, cast to its type."""
