"""Named tensors in a file or in a live model."""

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
    """Return a NumPy dtype by its name, including bfloat16."""
    if name == "bfloat16":
        import ml_dtypes  # NumPy has none of its own

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return dtype
    return np.dtype(name)


@dataclass(frozen=True)
class TensorInfo:
    """The type (``float32``) and the shape of a tensor, known without reading it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of its values in bytes."""
        return prod(self.shape) * numpy_dtype(self.dtype).itemsize

    @property
    def is_float(self) -> bool:
        """Whether weights may have this type."""
        return self.dtype in _FLOATS


class TensorSource(Protocol):
    """Named tensors: a file, or a live model."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata stored with them."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Their types and shapes, by name."""

    def read(self, name: str) -> Array:
        """Return a tensor, in its stored type."""


class LiveTensors(TensorSource, Protocol):
    """The tensors of a model in memory, under their names in its files."""

    def write(self, name: str, array: Array) -> None:
        """Set a tensor, cast to its type."""
