"""Folders of image files, laid out like ImageNet: train/CLASS/FILE, val/CLASS/FILE."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cliquegraph.data.pictures import read_picture
from cliquegraph.data.source import Contents, Pixels, Rows, Shape, Source
from cliquegraph.diagnostics.errors import DataError, UsageError

ENDINGS = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".webp"))


@dataclass(frozen=True)
class _Listed:
    paths: list[str]
    labels: list[int]


class Files(Source):
    """Image files, decoded on demand by threads: Pillow releases the GIL."""

    def __init__(self, listed: _Listed, shape: Shape, margin: float) -> None:
        self._paths = listed.paths
        self._margin = margin
        self.labels = np.array(listed.labels, np.int64)
        self.shape = shape

    def pixels(self, rows: Rows) -> Pixels:
        """Decode images, resize them and crop the center."""

        def read(index: int) -> Pixels:
            return read_picture(Path(self._paths[rows[index]]), self.shape, self._margin)

        return self._decode(len(rows), read)

    def crops(self, rows: Rows, draws: NDArray[np.float64]) -> Pixels:
        """Decode images and resize a random part of each."""

        def read(index: int) -> Pixels:
            path = Path(self._paths[rows[index]])
            return read_picture(path, self.shape, draws=draws[index])

        return self._decode(len(rows), read)

    def _decode(self, count: int, read: Callable[[int], Pixels]) -> Pixels:
        images = np.empty((count, *self.shape), np.uint8)
        with ThreadPoolExecutor(min(count, os.cpu_count() or 1) or 1) as threads:
            for index, pixels in enumerate(threads.map(read, range(count))):
                images[index] = pixels
        return images


def read_folder(folder: Path, shape: Shape, margin: float) -> Contents:
    """Return the images of train/, and of test/ or val/ to test on.

    If both exist, val/ is the validation part. A test/ without class folders, like ImageNet's,
    has no labels and is ignored.

    Args:
        folder: contains train/.
        shape: (C, H, W) to which images are resized.
        margin: of test images, as in ``read_picture``.

    Raises:
        UsageError: there is no train/CLASS/FILE.
        DataError: another part has a class that train/ does not have.
    """
    classes = _class_folders(folder / "train")
    if not classes:
        raise UsageError(f"{folder} has no train/CLASS/ folders of images")
    listed = {
        part: _list(folder / part, classes)
        for part in ("train", "val", "test")
        if _class_folders(folder / part)
    }
    if not listed["train"].paths:
        raise UsageError(f"{folder / 'train'}: no images ({', '.join(sorted(ENDINGS))})")
    sources = {part: Files(each, shape, margin) for part, each in listed.items() if each.paths}
    train, val, test = (sources.get(part) for part in ("train", "val", "test"))
    assert train is not None  # noqa: S101 (it has paths)
    if test is None:
        return Contents(train, val, classes)
    return Contents(train, test, classes, validation=val)


def _class_folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        return tuple(
            sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
        )


def _list(folder: Path, classes: tuple[str, ...]) -> _Listed:
    listed = _Listed([], [])
    for name in _class_folders(folder):
        if name not in classes:
            raise DataError(f"{folder / name}: no such class in {folder.parent / 'train'}")
        with os.scandir(folder / name) as entries:
            names = sorted(entry.name for entry in entries)
        chosen = [each for each in names if os.path.splitext(each)[1].lower() in ENDINGS]  # noqa: PTH122 (1.3 million)
        listed.paths.extend(f"{folder}/{name}/{each}" for each in chosen)
        listed.labels.extend([classes.index(name)] * len(chosen))
    return listed
