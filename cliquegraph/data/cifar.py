"""CIFAR-10 and CIFAR-100: the binary and the Python version, in a folder or a tar file."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.pickles import read_pickle
from cliquegraph.data.source import Arrays, Contents, check_labels
from cliquegraph.errors import DataError, UsageError

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """One of the two sets.

    Attributes:
        folders: what the tar files hold: that of the Python version, that of the binary one.
        train, test: names of its files; those of the binary version end in ``.bin``.
        meta: the files with the names of classes, in the Python version and in the binary one.
        labels: their key in a pickle.
        names: the key of the classes' names.
        label_bytes: before the pixels of a binary record; the last of them is the label.
        classes: how many.
    """

    folders: tuple[str, str]
    train: tuple[str, ...]
    test: str
    meta: tuple[str, str]
    labels: str
    names: str
    label_bytes: int
    classes: int


CIFAR10 = Cifar(
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    train=tuple(f"data_batch_{index}" for index in range(1, 6)),
    test="test_batch",
    meta=("batches.meta", "batches.meta.txt"),
    labels="labels",
    names="label_names",
    label_bytes=1,
    classes=10,
)
CIFAR100 = Cifar(
    folders=("cifar-100-python", "cifar-100-binary"),
    train=("train",),
    test="test",
    meta=("meta", "fine_label_names.txt"),
    labels="fine_labels",
    names="fine_label_names",
    label_bytes=2,
    classes=100,
)

_Pair = tuple[NDArray[np.uint8], NDArray[np.integer]]
_Open = Callable[[str], BinaryIO]


def read_cifar(place: Path, cifar: Cifar) -> Contents:
    """Return the images at a place: a folder with the files, or one of the two tar files.

    Raises:
        UsageError: there are none.
        DataError: a file is damaged.
    """
    if place.is_file():
        return _read_tar(place, cifar)
    for folder in (place, *(place / name for name in cifar.folders)):
        for end in ("", ".bin"):
            if (folder / (cifar.train[0] + end)).is_file():
                return _read_folder(folder, cifar, end)
    for tar in sorted(place.glob("cifar*.tar*")):
        if any(tar.name.startswith(name) for name in _tar_names(cifar)):
            return _read_tar(tar, cifar)
    raise UsageError(f"{place} has no {cifar.train[0]} or {cifar.train[0]}.bin")


def _tar_names(cifar: Cifar) -> tuple[str, str]:
    base = cifar.folders[1].removesuffix("-batches-bin").removesuffix("-binary")
    return f"{base}-python.tar", f"{base}-binary.tar"


def _read_folder(folder: Path, cifar: Cifar, end: str) -> Contents:
    def opened(name: str) -> BinaryIO:
        path = folder / name
        if not path.is_file():
            raise UsageError(f"{folder} has no {name}")
        return path.open("rb")

    if not end:
        return _contents(cifar, opened, folder, end)

    def mapped(name: str) -> NDArray[np.uint8]:
        with opened(name):
            pass
        if not (folder / name).stat().st_size:
            return np.zeros(0, np.uint8)
        return np.memmap(folder / name, np.uint8, "r")

    return _contents(cifar, opened, folder, end, mapped)


def _read_tar(path: Path, cifar: Cifar) -> Contents:
    """Read a tar file from its beginning to its end, once."""
    wanted = {*cifar.train, cifar.test, *cifar.meta}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                content = tar.extractfile(member) if member.isfile() else None
                if content and folder in cifar.folders and name.removesuffix(".bin") in wanted:
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: damaged or truncated: {error}") from error

    def opened(name: str) -> BinaryIO:
        if name not in found:
            raise DataError(f"{path} has no {name}: truncated, or the file of another set")
        return io.BytesIO(found[name])

    end = ".bin" if f"{cifar.train[0]}.bin" in found else ""
    return _contents(
        cifar, opened, path, end, lambda name: np.frombuffer(opened(name).read(), np.uint8)
    )


def _contents(
    cifar: Cifar,
    opened: _Open,
    place: Path,
    end: str,
    content: Callable[[str], NDArray[np.uint8]] | None = None,
) -> Contents:
    def read(name: str) -> _Pair:
        if end and content is not None:
            return _binary(place / name, content(name), cifar)
        with opened(name) as stream:
            return _pickled(place / name, stream, cifar)

    pairs = [read(name + end) for name in cifar.train]
    images, labels = read(cifar.test + end)
    return Contents(
        Arrays([each for each, _ in pairs], np.concatenate([each for _, each in pairs])),
        Arrays([images], labels),
        _class_names(cifar, opened, place, end),
    )


def _binary(path: Path, content: NDArray[np.uint8], cifar: Cifar) -> _Pair:
    """Return views of a binary file's images and labels."""
    size = cifar.label_bytes + _PIXELS
    if len(content) % size or not len(content):
        whole = len(content) // size
        raise DataError(
            f"{path}: truncated at byte {len(content)}, in image {whole} that begins at byte "
            f"{whole * size} and takes {size}"
        )
    records = content.reshape(-1, size)
    labels = np.array(records[:, cifar.label_bytes - 1])
    check_labels(path, labels, cifar.classes, cifar.label_bytes - 1, size)
    return records[:, cifar.label_bytes :].reshape(-1, *SHAPE), labels


def _pickled(path: Path, stream: BinaryIO, cifar: Cifar) -> _Pair:
    """Return the images and labels of a pickle."""
    found = read_pickle(path, stream)
    for key in ("data", cifar.labels):
        if key not in found:
            raise DataError(f"{path}: has no {key!r}, but {', '.join(sorted(found))}")
    images, labels = found["data"], found[cifar.labels]
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8):
        raise DataError(f"{path}: 'data' is no array of bytes")
    if images.ndim != 2 or images.shape[1] != _PIXELS:
        raise DataError(f"{path}: 'data' is {images.shape}, must be (N, {_PIXELS})")
    numbers = np.asarray(labels)
    if numbers.shape != images.shape[:1] or numbers.dtype.kind not in "iu":
        raise DataError(f"{path}: {cifar.labels!r} is not one number for each image")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= cifar.classes))
    if len(wrong):
        raise DataError(
            f"{path}: {cifar.labels!r}[{wrong[0]}] is {numbers[wrong[0]]}, "
            f"there are {cifar.classes} classes"
        )
    return images.reshape(-1, *SHAPE), numbers


def _class_names(cifar: Cifar, opened: _Open, place: Path, end: str) -> tuple[str, ...]:
    name = cifar.meta[1 if end else 0]
    with opened(name) as stream:
        if end:
            names = stream.read().decode("utf-8", "replace").split()
        else:
            listed = read_pickle(place / name, stream).get(cifar.names, [])
            names = [each.decode("utf-8", "replace") for each in listed]
    if len(names) != cifar.classes:
        raise DataError(f"{place / name}: {len(names)} names for {cifar.classes} classes")
    return tuple(names)
