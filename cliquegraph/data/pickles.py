"""Reading the pickles of CIFAR's Python version without executing code in them.

A pickle may only construct arrays of bytes or integers, and for these, stand-ins are called:
NumPy's own constructors trust the pickle's description of their memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cliquegraph.diagnostics.errors import DataError

_TYPES = ("u1", "i1", "i4", "i8")


class _Type:
    """Stand-in for numpy.dtype."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if self.name not in _TYPES:
            raise pickle.UnpicklingError(f"an array of type {self.name!r}")
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order in (">", "<"):
            self.order = order

    def array(self, content: bytes, shape: tuple[int, ...], fortran: bool) -> NDArray[np.integer]:
        flat = np.frombuffer(content, np.dtype(self.order + self.name))
        return flat.reshape(shape, order="F" if fortran else "C")


class _Array:
    """Stand-in for a numpy.ndarray whose content is not known yet."""

    content: NDArray[np.integer] | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not (isinstance(dtype, _Type) and isinstance(content, bytes)):
            raise pickle.UnpicklingError("an array of objects")
        self.content = dtype.array(content, shape, fortran)


def _from_buffer(
    content: bytes, dtype: _Type, shape: tuple[int, ...], order: str
) -> NDArray[np.integer]:
    """Stand-in for the function that pickles of protocol 5 call."""
    if not isinstance(dtype, _Type):
        raise pickle.UnpicklingError("an array of objects")
    return dtype.array(content, shape, order == "F")


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for _codecs.encode, by which old protocols write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text as {encoding!r}")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which images don't need")
        return _NAMES[module, name]


def read_pickle(path: Path | str, stream: BinaryIO) -> dict[str, Any]:
    """Return a dictionary of arrays, lists, strings and numbers.

    Raises:
        DataError: it is truncated, not a pickled dictionary, or holds anything else.
    """
    try:
        entries = _Unpickler(stream, encoding="bytes").load()
    except (
        EOFError,
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:  # the exceptions that pickle's documentation lists, and NumPy's own
        raise DataError(
            f"{path}: truncated, or not a pickle of images, at byte {stream.tell()}: {error}"
        ) from error
    if not isinstance(entries, dict):
        raise DataError(f"{path}: a pickle of a {type(entries).__name__}, not of a dictionary")
    return {_text(key): _unwrap(value) for key, value in entries.items()}


def _text(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _unwrap(value: object) -> object:
    return value.content if isinstance(value, _Array) else value
