"""A PyTorch model in memory, as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array
from cliquegraph.weights.source import TensorInfo, numpy_dtype


class LiveModel:
    """The tensors of a generated model, by the keys of its ``state_dict``."""

    def __init__(self, model: nn.Module) -> None:
        self._model = unwrapped(model)
        self.metadata: Mapping[str, str] = {}

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Types and shapes of the tensors.

        Raises:
            UsageError: the model is on the meta device.
        """
        state = self._model.state_dict()
        if any(tensor.is_meta for tensor in state.values()):
            raise UsageError("the model is on the meta device: model.to_empty(device='cpu') first")
        return {name: info_of(tensor) for name, tensor in state.items()}

    def read(self, name: str) -> Array:
        """Return a copy of a tensor, of its own type."""
        return to_numpy(find_tensor(self._model, name))

    def write(self, name: str, array: Array) -> None:
        """Set a tensor, with a cast to its type, on its device."""
        with torch.no_grad():
            find_tensor(self._model, name).copy_(torch.from_numpy(_portable(array)))


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside what ``torch.compile``, averaging and parallelism wrap around it."""
    if isinstance(model, torch._dynamo.OptimizedModule):
        return unwrapped(model._orig_mod)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
        return unwrapped(model.module)
    return model


def find_tensor(model: nn.Module, name: str) -> Tensor:
    """Return a model's tensor by its key."""
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)  # noqa: S101  # names are keys of tensors
    return value


def info_of(tensor: Tensor) -> TensorInfo:
    """Return the type and shape of a tensor."""
    return TensorInfo(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def to_numpy(tensor: Tensor) -> Array:
    """Return a copy of a tensor; NumPy has no bfloat16 of its own."""
    here = tensor.detach().cpu().contiguous()
    if here.dtype == torch.bfloat16:
        return here.view(torch.int16).numpy().copy().view(numpy_dtype("bfloat16"))
    return np.array(here.numpy())


def _portable(array: Array) -> Array:
    """The same values in a type that PyTorch accepts from NumPy."""
    known = array.dtype if array.dtype.name != "bfloat16" else np.dtype(np.float32)
    return np.array(array, known)  # a copy: PyTorch warns of memory that can't be written
