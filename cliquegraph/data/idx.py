"""IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.source import Arrays, Contents, MissingFilesError, check_labels
from cliquegraph.diagnostics.errors import DataError

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGITS = tuple("0123456789")

_BYTES = 8  # the code of unsigned bytes, the only type in these files
_CHUNK = 1 << 20


def read_idx_set(folder: Path, classes: tuple[str, ...]) -> Contents:
    """Return the 60,000 + 10,000 images in a folder with the four files."""
    train, test = (_read_part(folder, part, len(classes)) for part in ("train", "t10k"))
    if train.shape != test.shape:
        raise DataError(
            f"{folder}: training images have shape {train.shape}, test images {test.shape}"
        )
    return Contents(train, test, classes)


def _read_part(folder: Path, part: str, classes: int) -> Arrays:
    images_path = find_idx(folder, f"{part}-images-idx3-ubyte")
    labels_path = find_idx(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} has {len(images)} images, {labels_path} has {len(labels)} labels"
        )
    check_labels(labels_path, labels, classes, first=8)
    return Arrays([images[:, None]], labels)


def find_idx(folder: Path, name: str) -> Path:
    """Return the file of a name, gzipped or not, in either distribution's spelling."""
    spellings = (name, name.replace("-idx", ".idx"))
    for candidate in (folder / (each + end) for each in spellings for end in ("", ".gz")):
        if candidate.is_file():
            return candidate
    raise MissingFilesError(f"{folder} has no {name} or {name}.gz")


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in a file; an uncompressed file is memory-mapped.

    Raises:
        DataError: the format or the length of the file is wrong.
    """
    zipped = path.suffix == ".gz"
    where = "byte {} of the unpacked data" if zipped else "byte {}"
    with gzip.open(path) if zipped else path.open("rb") as stream:
        size = 4 + 4 * dimensions
        header = _read(path, stream, size)
        if len(header) < size:
            raise DataError(f"{path}: truncated at {where.format(len(header))}, in the header")
        magic = bytes((0, 0, _BYTES, dimensions))
        if header[:4] != magic:
            raise DataError(
                f"{path}: starts with {header[:4].hex()} at byte 0, "
                f"not with {magic.hex()}, as an IDX file of bytes with {dimensions} dimensions does"
            )
        shape = struct.unpack(f">{dimensions}I", header[4:])
        expected = math.prod(shape)
        if not zipped:
            length = path.stat().st_size - size
        else:
            content = _read(path, stream, expected + 1)  # one more, to detect trailing data
            length = len(content)
    if length < expected:
        raise DataError(
            f"{path}: truncated at {where.format(size + length)}, "
            f"must have {size + expected} for {' × '.join(map(str, shape))}"
        )
    if length > expected:
        raise DataError(
            f"{path}: has data after {where.format(size + expected)}, where it should end"
        )
    if zipped:
        return np.frombuffer(content, np.uint8).reshape(shape)
    if not expected:
        return np.zeros(shape, np.uint8)
    return np.memmap(path, np.uint8, "r", size, shape)


def _read(path: Path, stream: gzip.GzipFile | BufferedReader, size: int) -> bytes:
    """Return up to ``size`` bytes, fewer if the file is truncated."""
    chunks: list[bytes] = []
    length = 0
    while length < size:
        try:
            chunk = stream.read(min(_CHUNK, size - length))
        except EOFError:
            break  # gzip raises this for a truncated file
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path}: damaged after byte {length} of the unpacked data: {error}"
            ) from error
        if not chunk:
            break
        chunks.append(chunk)
        length += len(chunk)
    return b"".join(chunks)
