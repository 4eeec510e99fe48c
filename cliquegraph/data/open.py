"""Data sets by name: where they are, where to get them, whether they fit a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliquegraph.data.batches import Dataset, Statistics, Treatment
from cliquegraph.data.cifar import CIFAR10, CIFAR100, read_cifar
from cliquegraph.data.dataset import ImageDataset, Part
from cliquegraph.data.digits import read_digits
from cliquegraph.data.folder import read_folder
from cliquegraph.data.idx import DIGITS, FASHION, read_idx_set
from cliquegraph.data.pictures import margin_of
from cliquegraph.data.source import Contents, MissingFilesError, Shape
from cliquegraph.data.split import Purpose, generator, stratified
from cliquegraph.data.statistics import statistics_of
from cliquegraph.data.svhn import read_svhn
from cliquegraph.data.synthetic import TRAINING_IMAGES, make_synthetic
from cliquegraph.diagnostics.errors import UsageError

_IDX_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
_SVHN_FILES = ("train_32x32.mat", "test_32x32.mat", "extra_32x32.mat")


@dataclass(frozen=True)
class Download:
    """A data set that has to be fetched.

    Attributes:
        read: returns what a folder, or for CIFAR a tar file, holds.
        files: what to fetch.
        url: the folder of the files.
        places: where they are looked for if no path is given; the last is proposed.
        alternative: another way to get them.
    """

    read: Callable[[Path], Contents]
    files: tuple[str, ...]
    url: str
    places: tuple[Path, ...]
    alternative: str = ""

    def open(self, name: str, path: str) -> Contents:
        """Read the set, or say how to get it."""
        places = (Path(path).expanduser(),) if path else self.places
        place = next((each for each in places if each.exists()), places[-1])
        try:
            if not place.exists():
                raise MissingFilesError(f"there is no {place}")
            return self.read(place)
        except MissingFilesError as error:
            raise UsageError(f"{error}: {self.advice(name, place)}") from error

    def advice(self, name: str, place: Path) -> str:
        """Say what to fetch and where it goes."""
        urls = ", ".join(f"{self.url}{file}" for file in self.files)
        return f"put {urls} into {place}/{self.alternative}, or say --data {name}:PATH"


_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
DOWNLOADS = {
    "cifar10": Download(
        lambda place: read_cifar(place, CIFAR10),
        ("cifar-10-python.tar.gz",),
        _CIFAR_URL,
        (Path("data/cifar10"),),
        " (or cifar-10-binary.tar.gz, or what either unpacks to)",
    ),
    "cifar100": Download(
        lambda place: read_cifar(place, CIFAR100),
        ("cifar-100-python.tar.gz",),
        _CIFAR_URL,
        (Path("data/cifar100"),),
        " (or cifar-100-binary.tar.gz, or what either unpacks to)",
    ),
    "svhn": Download(
        read_svhn,
        _SVHN_FILES,
        "http://ufldl.stanford.edu/housenumbers/",
        (Path("data/svhn"),),
        " (extra is not needed)",
    ),
    "mnist": Download(
        lambda place: read_idx_set(place, DIGITS),
        _IDX_FILES,
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (Path("data/mnist"),),
    ),
    "fashion-mnist": Download(
        lambda place: read_idx_set(place, FASHION),
        _IDX_FILES,
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (Path("/usr/share/datasets/fashion-mnist"), Path("data/fashion-mnist")),
        " (on Debian: apt-get install dataset-fashion-mnist)",
    ),
}
NAMES = (*DOWNLOADS, "digits", "folder", "synthetic")


def open_data(
    reference: str,
    *,
    shape: Shape,
    classes: int,
    treatment: Treatment,
    validation: float = 0.0,
    subset: int | None = None,
    seed: int = 0,
    statistics: Statistics | None = None,
) -> Dataset:
    """Open a data set for a network.

    Args:
        reference: ``NAME`` or ``NAME:PATH``; of ``synthetic``, PATH is a number of images.
        shape: (C, H, W) of the network's input.
        classes: of the network.
        treatment: normalisation and augmentation.
        validation: share of the training images that is split off, by the seed alone.
        subset: train on that many of the images that are left.
        seed: of both choices, which keep the shares of the classes.
        statistics: of a run, to treat images as it did; the treatment's if not given.

    Raises:
        UsageError: there is no such data, or it does not fit the network.
        DataError: a file is damaged.
    """
    name, _, path = reference.partition(":")
    contents = _read(name, path, shape, classes, treatment)
    _check_fit(name, contents, shape, classes)
    parts = _split(name, contents, validation, subset, seed)
    if statistics is None:
        statistics = statistics_of(parts["train"], treatment.normalisation)
    statistics.require_channels(shape[0])
    return ImageDataset(name, contents.classes, treatment, statistics, parts)


def _read(name: str, path: str, shape: Shape, classes: int, treatment: Treatment) -> Contents:
    if name in DOWNLOADS:
        return DOWNLOADS[name].open(name, path)
    match name:
        case "digits" if not path:
            return read_digits()
        case "folder" if path:
            return read_folder(Path(path).expanduser(), shape, margin_of(treatment))
        case "synthetic" if not path or (path.isdecimal() and int(path)):
            return make_synthetic(shape, classes, int(path or TRAINING_IMAGES))
        case "digits":
            raise UsageError("digits come with scikit-learn and have no path")
        case "folder":
            raise UsageError("say which folder: --data folder:PATH")
        case "synthetic":
            raise UsageError(f"synthetic:{path} is no number of images")
    raise UsageError(f"there is no data set {name!r}; there are {', '.join(NAMES)}")


def _check_fit(name: str, contents: Contents, shape: Shape, classes: int) -> None:
    found, count = contents.train.shape, len(contents.classes)
    if found == shape and count == classes:
        return
    names = ("input.channels", "input.height", "input.width", "classifier.classes")
    changes = [
        f"--set {key}={has}"
        for key, has, takes in zip(names, (*found, count), (*shape, classes), strict=True)
        if has != takes
    ]
    raise UsageError(
        f"{name} has images of {_shown(found)} in {count} classes, the network takes "
        f"{_shown(shape)} in {classes}: take other data, or the network with {' '.join(changes)}"
    )


def _shown(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _split(
    name: str, contents: Contents, validation: float, subset: int | None, seed: int
) -> dict[str, Part]:
    if seed < 0:
        raise UsageError(f"a seed is a number from 0 on, not {seed}")
    if not 0 <= validation < 1:
        raise UsageError(f"a validation part is a share from 0 to 1, not {validation}")
    labels = contents.train.labels
    rows = np.arange(len(labels))
    parts: dict[str, Part] = {}
    if validation and contents.validation is not None:
        raise UsageError(f"{name} has a validation part of its own, val/: leave the share out")
    if contents.validation is not None:
        parts["validation"] = Part(contents.validation, np.arange(len(contents.validation.labels)))
    if validation:
        count = round(validation * len(labels))
        if not 0 < count < len(labels):
            raise UsageError(f"{validation:g} of {len(labels)} images is {count}: none are left")
        held = stratified(labels, count, generator(Purpose.VALIDATION, seed))
        parts["validation"] = Part(contents.train, held)
        rows = np.setdiff1d(rows, held)
    if subset is not None:
        if not 0 < subset <= len(rows):
            raise UsageError(f"{name} has {len(rows)} images to train on, no subset of {subset}")
        chosen = stratified(labels[rows], subset, generator(Purpose.SUBSET, seed))
        rows = rows[chosen]
    if contents.test is not None:
        parts["test"] = Part(contents.test, np.arange(len(contents.test.labels)))
    return {"train": Part(contents.train, rows), **parts}
