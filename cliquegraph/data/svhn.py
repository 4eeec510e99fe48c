"""SVHN's cropped digits: MATLAB files of 32×32 images."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cliquegraph.data.source import Arrays, Contents, MissingFilesError
from cliquegraph.diagnostics.errors import DataError, UsageError

SHAPE = (3, 32, 32)
DIGITS = tuple("0123456789")


def read_svhn(folder: Path) -> Contents:
    """Return train together with extra, if present, as training images as in the paper, and test.

    The files are compressed, so all images are held in memory: 2.0 GB with extra.
    """
    train = [_read(folder / "train_32x32.mat")]
    extra = folder / "extra_32x32.mat"
    if extra.is_file():
        train.append(_read(extra))
    test = _read(folder / "test_32x32.mat")
    arrays = [array for part in train for array in part.arrays]
    return Contents(Arrays(arrays, np.concatenate([each.labels for each in train])), test, DIGITS)


def _read(path: Path) -> Arrays:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise UsageError("SVHN needs SciPy: pip install scipy") from error
    if not path.is_file():
        raise MissingFilesError(f"{path.parent} has no {path.name}")
    with path.open("rb") as stream:
        try:
            variables: dict[str, Any] = loadmat(stream, variable_names=["X", "y"])
        except (
            ArithmeticError,
            LookupError,
            MatReadError,
            MemoryError,
            NotImplementedError,
            OSError,
            TypeError,
            ValueError,
            struct.error,
            zlib.error,
        ) as error:  # SciPy trusts the file's header, so a damaged file can raise any of these
            raise DataError(
                f"{path}: truncated or damaged at byte {stream.tell()}: {error}"
            ) from error
    return _arrays(path, variables)


def _arrays(path: Path, variables: dict[str, Any]) -> Arrays:
    for name in ("X", "y"):
        if name not in variables:
            raise DataError(
                f"{path}: {name} is missing: the file is truncated or of another format"
            )
    images, labels = variables["X"], variables["y"].ravel()
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise DataError(f"{path}: X is {images.dtype} {images.shape}, must be uint8 (32, 32, 3, N)")
    if len(labels) != images.shape[3]:
        raise DataError(f"{path}: {images.shape[3]} images, but {len(labels)} labels")
    wrong = np.flatnonzero((labels < 1) | (labels > 10))
    if len(wrong):
        raise DataError(f"{path}: y[{wrong[0]}] is {labels[wrong[0]]}, must be from 1 to 10")
    # MATLAB is column-major: each image is contiguous, as (channel, column, row).
    return Arrays([images.transpose(3, 2, 0, 1)], labels.astype(np.int64) % 10)
