"""How far rounding alone may move gradients, measured by rounding in PyTorch at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RandomRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's is untyped
    """Changes the last digit of every result of an operator, forward and backward, at random.

    A zero stays zero: whether a ReLU was active must not depend on it.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self._random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Execute an operator and round what it computes; a view computes nothing."""
        results = func(*args, **(kwargs or {}))
        if not func.is_view:
            for result in tree_leaves(results):
                if isinstance(result, Tensor) and result.is_floating_point():
                    result.mul_(self._factors(result))
        return results

    def _factors(self, result: Tensor) -> Tensor:
        up = torch.rand(result.shape, generator=self._random) < 0.5
        return 1 + torch.finfo(result.dtype).eps * (2 * up.to(result.dtype) - 1)
