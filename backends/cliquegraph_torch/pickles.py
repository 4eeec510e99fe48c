"""PyTorch's own files, read without running anything that they hold."""

from __future__ import annotations

import pickle  # for the error that PyTorch raises
import warnings
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliquegraph.errors import BackendError, WeightsError
from cliquegraph.weights.storage import Array
from cliquegraph.weights.tensors import TensorInfo, TensorSource

if TYPE_CHECKING:
    from torch import Tensor


def open_pickle(path: Path) -> TensorSource:
    """Open what ``torch.save`` wrote: a state dict, or a dictionary that has one.

    Raises:
        WeightsError: the file is damaged, holds code, or no state dict.
        BackendError: PyTorch is not installed.
    """
    if find_spec("torch") is None:
        raise BackendError(f"only PyTorch reads {path}: pip install 'cliquegraph[torch]'")
    found = _load(path)
    state = found.get("state_dict", found) if isinstance(found, Mapping) else found
    return _Pickled(_state(state, path))


def _load(path: Path) -> Any:
    import torch

    try:
        # Storages of the zip format are mapped; the legacy format has no such thing.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings(action="ignore"):  # what can't be read is an error below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "unpickling failed"
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged; nothing of it was run: {first}"
        ) from None
    except Exception as error:  # noqa: BLE001  # a damaged pickle can raise anything
        raise WeightsError(f"{path} is damaged: {error or type(error).__name__}") from None


def _state(found: Any, path: Path) -> dict[str, Tensor]:
    import torch
    from torch import Tensor

    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{path} holds no state dict but a {type(found).__name__}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} holds no state dict: {name!r} is a {type(value).__name__}, not a tensor"
            )
        if value.layout != torch.strided:
            raise WeightsError(f"{path}: {name} is sparse; weights are dense")
    return dict(found)


class _Pickled:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        from cliquegraph_torch.live import info_of

        self._tensors = tensors
        self.metadata: Mapping[str, str] = {}
        self.infos: Mapping[str, TensorInfo] = {n: info_of(each) for n, each in tensors.items()}

    def read(self, name: str) -> Array:
        from cliquegraph_torch.live import to_numpy

        return to_numpy(self._tensors[name])
