"""Reads PyTorch's own files without running any code in them."""

from __future__ import annotations

import pickle  # for the error that PyTorch raises
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliquegraph.diagnostics.errors import BackendError, WeightsError
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.install import how_to_install
from cliquegraph.weights.source import TensorInfo, TensorSource
from cliquegraph_torch.needs import FRAMEWORK

if TYPE_CHECKING:
    from torch import Tensor

_HOLDERS = ("state_dict", "model", "model_state_dict")
"""Keys of the state dict in the larger dictionaries of training scripts."""


def open_pickle(path: Path) -> TensorSource:
    """Open what ``torch.save`` wrote: a state dict, or a dictionary that has one.

    Raises:
        WeightsError: the file is damaged, contains code, or has no state dict.
        BackendError: PyTorch is not installed.
    """
    if how := how_to_install(FRAMEWORK):
        raise BackendError(f"only PyTorch reads {path}: {how}")
    content = _load(path)
    for key in _HOLDERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return _Pickled(_state(content, path))


def _load(path: Path) -> Any:
    import torch

    try:
        _check_sums(path)
        # Storages of the zip format can be memory-mapped; those of the legacy format can't.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings(action="ignore"):  # what can't be read becomes an error below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        # PyTorch's own message says how to run the file nevertheless.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise WeightsError(
            f"{path} holds more than tensors{what}, or is damaged; nothing of it was run: save "
            "the state dict alone, torch.save(model.state_dict(), ...)"
        ) from None
    except WeightsError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged pickle can raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is damaged: {first}") from None


def _check_sums(path: Path) -> None:
    """Check the sums of a zip archive, which PyTorch ignores when it maps one."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            packed = [each for each in archive.infolist() if each.file_size > each.compress_size]
            if packed:  # PyTorch would unpack it in memory, whatever its size
                raise WeightsError(
                    f"{path} is compressed, which torch.save does not do: load it and save it again"
                )
            if wrong := archive.testzip():
                raise WeightsError(f"{path} is damaged: the checksum of {wrong} is wrong")


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    import torch
    from torch import Tensor

    if not isinstance(content, Mapping) or not content:
        is_empty = content is None or isinstance(content, Mapping)
        kind = "nothing" if is_empty else f"a {type(content).__name__}"
        raise WeightsError(f"{path} holds no state dict but {kind}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} holds no state dict, names with their tensors: {name!r} is a "
                f"{type(value).__name__}"
            )
        if value.layout != torch.strided or value.is_meta or value.is_nested:
            raise WeightsError(f"{path}: {name} is no dense tensor that holds numbers")
    return dict(content)


class _Pickled:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        from cliquegraph_torch.live import info_of

        self._tensors = tensors
        self.metadata: Mapping[str, str] = {}
        self.infos: Mapping[str, TensorInfo] = {n: info_of(each) for n, each in tensors.items()}

    def read(self, name: str) -> Array:
        from cliquegraph_torch.live import to_numpy

        return to_numpy(self._tensors[name])
