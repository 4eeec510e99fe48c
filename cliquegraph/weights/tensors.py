"""Named tensors in files, read and written one at a time."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.files import write_bytes
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.pickles import PickleReader
from cliquegraph.weights.source import FLOATS_ONLY, TensorInfo, TensorSource, numpy_dtype

_CODES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""NumPy's names for the types of safetensors."""

_NAMES = {name: code for code, name in _CODES.items()}


def native_arrays(tensors: Mapping[str, Any], place: str) -> dict[str, Array]:
    """Return tensors in memory as arrays in native byte order.

    Raises:
        WeightsError: one is not an array, or has a type that weights can't have.
    """
    require_type(tensors, Mapping, "cliquegraph.model_weights(model, network)")
    arrays = {}
    for name, array in tensors.items():
        if not isinstance(array, np.ndarray):
            kind = f"{type(array).__module__}.{type(array).__qualname__}"
            hint = (
                "; a state_dict is loaded by model.load_state_dict, or saved by torch.save and "
                "passed as a path; cliquegraph.model_weights(model, network) returns arrays"
            )
            raise WeightsError(
                f"{place}: {name} is a {kind}, but must be a NumPy array"
                f"{hint * kind.startswith('torch.')}"
            )
        info = TensorInfo(array.dtype.name, array.shape)
        if not info.is_float:
            raise WeightsError(f"{place}: {name} is {info.dtype}; {FLOATS_ONLY}")
        arrays[name] = array if array.dtype.isnative else array.astype(numpy_dtype(info.dtype))
    return arrays


@contextmanager
def open_tensors(path: Path, pickles: Sequence[EntryPoint] = ()) -> Iterator[TensorSource]:
    """Open a safetensors file or one pickled by PyTorch, depending on its content.

    Args:
        path: the file.
        pickles: readers of PyTorch's own files.

    Raises:
        WeightsError: there is no such file, it is damaged, or it has another format.
    """
    try:
        if not path.is_file():  # a folder, or a pipe, which would block
            kind = "is not a regular file" if path.exists() else "does not exist"
            raise WeightsError(f"{path} {kind}")
        with path.open("rb") as file:
            begin = file.read(9)
    except OSError as error:
        raise WeightsError(f"can't read {path}: {error.strerror}") from None
    if begin.startswith((b"PK\x03\x04", b"\x80")) and not begin.endswith(b"{"):
        if not pickles:
            raise WeightsError(f"{path} is in PyTorch's own format, which only PyTorch can read")
        reader: PickleReader = pickles[0].load()
        yield _without_prefix(reader(path))
        return
    from safetensors import SafetensorError, safe_open

    try:
        opened = safe_open(str(path), "numpy")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or is damaged: {error}") from None
    with opened:
        yield _without_prefix(_Safetensors(opened))


def _without_prefix(source: TensorSource) -> TensorSource:
    """The same tensors, under the names that they have in the model itself."""
    names = model_names(source.infos)
    changed = any(new != old for new, old in names.items()) or len(names) < len(source.infos)
    return _Renamed(source, names) if changed else source


def model_names(names: Iterable[str]) -> dict[str, str]:
    """Return the name that each tensor has in the model, with its name in the file.

    Wrappers add to them: ``module.`` of data parallelism and of averaged models, which also count
    in ``n_averaged``; ``_orig_mod.`` of ``torch.compile``, of a whole model or a part of it;
    ``model.``, ``network.`` or any attribute of a Lightning module. A model by itself has tensors
    in several parts, so a first part that all names share is never its own.
    """
    found = {name: name for name in names}
    while True:
        shorter = {_WITHIN.sub("", new): old for new, old in found.items() if new != _AVERAGED}
        firsts = {new.partition(".")[0] for new in shorter}
        if len(firsts) == 1 and all("." in new for new in shorter):
            shorter = {new.partition(".")[2]: old for new, old in shorter.items()}
        elif firsts & _WRAPPERS:
            # A Lightning module has tensors besides those of its model, of a loss for example.
            shorter = {_without_wrapper(new): old for new, old in shorter.items()}
        if len(shorter) < len(found) - (_AVERAGED in found):
            return found  # two tensors would have one name
        if shorter.keys() == found.keys():
            return found
        found = shorter


def stored_names(source: TensorSource) -> list[str]:
    """Return the names of tensors as in the file, where ``infos`` has those of the model."""
    return list(source._names.values() if isinstance(source, _Renamed) else source.infos)


_AVERAGED = "n_averaged"
_WITHIN = re.compile(r"(?<![^.])_orig_mod\.")
_WRAPPERS = frozenset({"module", "model", "network", "net"})


def _without_wrapper(name: str) -> str:
    first, _, rest = name.partition(".")
    return rest if first in _WRAPPERS and rest else name


class _Renamed:
    def __init__(self, source: TensorSource, names: Mapping[str, str]) -> None:
        self._source, self._names = source, names
        self.metadata = source.metadata
        self.infos: Mapping[str, TensorInfo] = {
            new: source.infos[old] for new, old in names.items()
        }

    def read(self, name: str) -> Array:
        return self._source.read(self._names[name])


class _Safetensors:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.metadata: Mapping[str, str] = file.metadata() or {}
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        self.infos: Mapping[str, TensorInfo] = {
            name: TensorInfo(
                _CODES.get(each.get_dtype(), each.get_dtype()), tuple(each.get_shape())
            )
            for name, each in slices.items()
        }

    def read(self, name: str) -> Array:
        numpy_dtype(self.infos[name].dtype)  # registers bfloat16 before the library needs it
        array: Array = self._file.get_tensor(name)
        return array


@dataclass(frozen=True)
class NewTensor:
    """A tensor to write; ``make`` computes it just before."""

    name: str
    info: TensorInfo
    make: Callable[[], Array]


def write_tensors(path: Path, tensors: Sequence[NewTensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, one tensor at a time; it appears when it is complete.

    The library's own writer needs all tensors in memory at once.

    Raises:
        UsageError: the file can't be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    # By decreasing item size, as in the library, so that each tensor is aligned.
    ordered = sorted(tensors, key=lambda each: -numpy_dtype(each.info.dtype).itemsize)
    for each in ordered:
        end = position + each.info.nbytes
        header[each.name] = {
            "dtype": _NAMES[each.info.dtype],
            "shape": each.info.shape,
            "data_offsets": (position, end),
        }
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, _chunks(text, ordered))


def _chunks(header: bytes, tensors: Sequence[NewTensor]) -> Iterator[bytes | memoryview]:
    yield struct.pack("<Q", len(header)) + header
    for each in tensors:
        array = np.asarray(each.make(), order="C")
        if TensorInfo(array.dtype.name, array.shape) != each.info:
            raise AssertionError(f"{each.name} is {array.dtype} {array.shape}")
        if sys.byteorder == "big":
            array = array.byteswap()
        yield array.reshape(-1).view(np.uint8).data
