"""CIFAR-10 and CIFAR-100: the binary and the Python version, from a folder or a tar file."""

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
    """One of the two data sets.

    Attributes:
        folders: the top folders in the tar files, of the Python version and of the binary one.
        tars: the tar files, in the same order.
        train, test: names of its files; those of the binary version end in ``.bin``.
        meta: the files with the names of classes, in the Python version and in the binary one.
        labels: their key in a pickle.
        names: the key of the class names.
        label_bytes: bytes before the pixels of a binary record; the last one is the label.
        classes: number of classes.
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
    """The files of a folder; those of the binary version are memory-mapped."""

    place: Path

    def stream(self, name: str) -> BinaryIO:
        self._check(name)
        return (self.place / name).open("rb")

    def content(self, name: str) -> NDArray[np.uint8]:
        self._check(name)
        if not (self.place / name).stat().st_size:
            return np.zeros(0, np.uint8)  # an empty file can't be mapped
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
            raise DataError(f"{self.place}: {name} is missing; it may be another data set")
        return io.BytesIO(self.members[name])

    def content(self, name: str) -> NDArray[np.uint8]:
        return np.frombuffer(self.stream(name).read(), np.uint8)


def read_cifar(place: Path, cifar: Cifar) -> Contents:
    """Return the images at a path: a folder with the files, or one of the two tar files.

    Raises:
        MissingFilesError: the files are not there.
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
    """Return the files of a data set, and whether they are those of the binary version."""
    first = cifar.train[0]
    if place.is_dir():
        for folder in (place, *(place / name for name in cifar.folders)):
            for binary, name in ((False, first), (True, f"{first}.bin")):
                if (folder / name).is_file():
                    return _Folder(folder), binary
    for path in (place, *(place / name for name in cifar.tars)):
        if path.is_file():
            members = _unpack(path, cifar)
            return _Tar(path, members), f"{first}.bin" in members
    raise MissingFilesError(f"{place} has no {first}, {first}.bin or {' or '.join(cifar.tars)}")


def _unpack(path: Path, cifar: Cifar) -> dict[str, bytes]:
    """Read a tar file from start to end, once."""
    files = (*cifar.train, cifar.test)
    wanted = {*files, *(f"{name}.bin" for name in files), *cifar.meta}
    members: dict[str, bytes] = {}
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream) as tar:
                for member in tar:
                    folder, _, name = member.name.rpartition("/")
                    content = tar.extractfile(member) if member.isfile() else None
                    if content and folder in cifar.folders and name in wanted:
                        members[name] = content.read()
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            raise DataError(f"{path}: truncated or damaged at byte {stream.tell()}: {error}") from (
                error
            )
    return members


def _binary(path: Path, content: NDArray[np.uint8], cifar: Cifar) -> _Pair:
    """Return views of a binary file's images and labels."""
    size = cifar.label_bytes + _PIXELS
    if len(content) % size or not len(content):
        whole = len(content) // size
        raise DataError(
            f"{path}: truncated at byte {len(content)}, in image {whole}, which starts at byte "
            f"{whole * size} and has {size} bytes"
        )
    records = content.reshape(-1, size)
    labels = np.array(records[:, cifar.label_bytes - 1])
    check_labels(path, labels, cifar.classes, cifar.label_bytes - 1, size)
    return records[:, cifar.label_bytes :].reshape(-1, *SHAPE), labels


def _pickled(path: Path, stream: BinaryIO, cifar: Cifar) -> _Pair:
    """Return the images and labels of a pickle."""
    entries = read_pickle(path, stream)
    for key in ("data", cifar.labels):
        if key not in entries:
            raise DataError(
                f"{path}: {key!r} is missing; the keys are {', '.join(sorted(entries))}"
            )
    images, labels = entries["data"], entries[cifar.labels]
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8):
        raise DataError(f"{path}: 'data' is not an array of bytes")
    if images.ndim != 2 or images.shape[1] != _PIXELS:
        raise DataError(f"{path}: 'data' has shape {images.shape}, must be (N, {_PIXELS})")
    class_ids = np.asarray(labels)
    if class_ids.shape != images.shape[:1] or class_ids.dtype.kind not in "iu":
        raise DataError(f"{path}: {cifar.labels!r} does not hold one number for each image")
    wrong = np.flatnonzero((class_ids < 0) | (class_ids >= cifar.classes))
    if len(wrong):
        raise DataError(
            f"{path}: {cifar.labels!r}[{wrong[0]}] is {class_ids[wrong[0]]}, "
            f"but there are {cifar.classes} classes"
        )
    return images.reshape(-1, *SHAPE), class_ids


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


def _names_in(entry: object) -> list[str]:
    """Return the class names in a pickle, which Python 2 wrote as bytes."""
    listed = entry if isinstance(entry, list) else []
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in listed
    ]
