"""CIFAR-10 and CIFAR-100: the binary and the Python version, in a folder or a tar file."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.pickles import read_pickle
from cliquegraph.data.source import Arrays, Contents, MissingFilesError, check_labels
from cliquegraph.diagnostics.errors import DataError

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """One of the two sets.

    Attributes:
        folders: what the tar files hold: that of the Python version, that of the binary one.
        tars: the tar files, in the same order.
        train, test: names of its files; those of the binary version end in ``.bin``.
        meta: the files with the names of classes, in the Python version and in the binary one.
        labels: their key in a pickle.
        names: the key of the classes' names.
        label_bytes: before the pixels of a binary record; the last of them is the label.
        classes: how many.
    """

    folders: tuple[str, str]
    tars: tuple[str, str]
    train: tuple[str, ...]
    test: str
    meta: tuple[str, str]
    labels: str
    names: str
    label_bytes: int
    classes: int


CIFAR10 = Cifar(
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    tars=("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
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
    tars=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
    train=("train",),
    test="test",
    meta=("meta", "fine_label_names.txt"),
    labels="fine_labels",
    names="fine_label_names",
    label_bytes=2,
    classes=100,
)

_Pair = tuple[NDArray[np.uint8], NDArray[np.integer]]


@dataclass(frozen=True)
class _Folder:
    """The files of a folder; those of the binary version are mapped, not read."""

    place: Path

    def stream(self, name: str) -> BinaryIO:
        self._check(name)
        return (self.place / name).open("rb")

    def content(self, name: str) -> NDArray[np.uint8]:
        self._check(name)
        if not (self.place / name).stat().st_size:
            return np.zeros(0, np.uint8)  # what can't be mapped
        return np.memmap(self.place / name, np.uint8, "r")

    def _check(self, name: str) -> None:
        if not (self.place / name).is_file():
            raise MissingFilesError(f"{self.place} has no {name}")


@dataclass(frozen=True)
class _Tar:
    """The files of a tar file, in memory."""

    place: Path
    members: dict[str, bytes]

    def stream(self, name: str) -> BinaryIO:
        if name not in self.members:
            raise DataError(f"{self.place}: holds no {name}, as the files of another set")
        return io.BytesIO(self.members[name])

    def content(self, name: str) -> NDArray[np.uint8]:
        return np.frombuffer(self.stream(name).read(), np.uint8)


def read_cifar(place: Path, cifar: Cifar) -> Contents:
    """Return the images at a place: a folder with the files, or one of the two tar files.

    Raises:
        MissingFilesError: there are none.
        DataError: a file is damaged.
    """
    files, binary = _find(place, cifar)
    end = ".bin" if binary else ""

    def read(name: str) -> _Pair:
        path = files.place / (name + end)
        if binary:
            return _binary(path, files.content(name + end), cifar)
        with files.stream(name) as stream:
            return _pickled(path, stream, cifar)

    pairs = [read(name) for name in cifar.train]
    images, labels = read(cifar.test)
    return Contents(
        Arrays([each for each, _ in pairs], np.concatenate([each for _, each in pairs])),
        Arrays([images], labels),
        _class_names(files, cifar, binary),
    )


def _find(place: Path, cifar: Cifar) -> tuple[_Folder | _Tar, bool]:
    """Return the files of a set, and whether they are those of the binary version."""
    first = cifar.train[0]
    if place.is_dir():
        for folder in (place, *(place / name for name in cifar.folders)):
            for binary, name in ((False, first), (True, f"{first}.bin")):
                if (folder / name).is_file():
                    return _Folder(folder), binary
    for path in (place, *(place / name for name in cifar.tars)):
        if path.is_file():
            members = _unpacked(path, cifar)
            return _Tar(path, members), f"{first}.bin" in members
    raise MissingFilesError(f"{place} has no {first}, {first}.bin or {' or '.join(cifar.tars)}")


def _unpacked(path: Path, cifar: Cifar) -> dict[str, bytes]:
    """Read a tar file from its beginning to its end, once."""
    files = (*cifar.train, cifar.test)
    wanted = {*files, *(f"{name}.bin" for name in files), *cifar.meta}
    found: dict[str, bytes] = {}
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream) as tar:
                for member in tar:
                    folder, _, name = member.name.rpartition("/")
                    content = tar.extractfile(member) if member.isfile() else None
                    if content and folder in cifar.folders and name in wanted:
                        found[name] = content.read()
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            raise DataError(f"{path}: truncated or damaged at byte {stream.tell()}: {error}") from (
                error
            )
    return found


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


def _class_names(files: _Folder | _Tar, cifar: Cifar, binary: bool) -> tuple[str, ...]:
    name = cifar.meta[binary]
    with files.stream(name) as stream:
        if binary:
            names = stream.read().decode("utf-8", "replace").split()
        else:
            names = _names_in(read_pickle(files.place / name, stream).get(cifar.names))
    if len(names) != cifar.classes:
        raise DataError(f"{files.place / name}: has {len(names)} names for {cifar.classes} classes")
    return tuple(names)


def _names_in(found: object) -> list[str]:
    """Return the names of a pickle, which Python 2 wrote as bytes."""
    listed = found if isinstance(found, list) else []
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in listed
    ]
