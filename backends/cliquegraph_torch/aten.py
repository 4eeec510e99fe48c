"""What ATen's operators compute, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

# Each registers its rules.
from cliquegraph_torch import (
    aten_convolution,
    aten_elements,
    aten_normalize,
    aten_shapes,
    aten_windows,
)
from cliquegraph_torch.aten_rules import RULES

__all__ = [
    "RULES",
    "aten_convolution",
    "aten_elements",
    "aten_normalize",
    "aten_shapes",
    "aten_windows",
    "statistics_moved",
]

_ATEN = torch.ops.aten


def statistics_moved(func: OpOverload, args: Sequence[Any]) -> list[Tensor]:
    """Return the running statistics into which an operator writes without declaring it."""
    written: list[Any] = []
    if func in (_ATEN.native_batch_norm.default, _ATEN.native_batch_norm.out) and args[5]:
        written = [args[3], args[4]]
    elif func is _ATEN.batch_norm_update_stats.default:
        written = [args[1], args[2]]
    return [each for each in written if each is not None]
