"""Data sets by name: locations, download instructions, and checks against a network."""

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
    """A data set that has to be downloaded.

    Attributes:
        read: reads a folder, or for CIFAR a tar file.
        files: the files to download.
        url: the URL of their folder.
        places: where to look for them if no path is given; the last is proposed to the user.
        alternative: another way to obtain them.
    """

    read: Callable[[Path], Contents]
    files: tuple[str, ...]
    url: str
    places: tuple[Path, ...]
    alternative: str = ""

    def open(self, name: str, path: str) -> Contents:
        """Read the data set, or explain how to obtain it."""
        places = (Path(path).expanduser(),) if path else self.places
        place = next((each for each in places if each.exists()), places[-1])
        try:
            if not place.exists():
                raise MissingFilesError(f"{place} does not exist")
            return self.read(place)
        except MissingFilesError as error:
            raise UsageError(f"{error}: {self.advice(name, place)}") from error

    def advice(self, name: str, place: Path) -> str:
        """Explain which files to download, and where to put them."""
        urls = ", ".join(f"{self.url}{file}" for file in self.files)
        return f"put {urls} into {place}/{self.alternative}, or use --data {name}:PATH"


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
        reference: ``NAME`` or ``NAME:PATH``; for ``synthetic``, PATH is a number of images.
        shape: (C, H, W) of the network's input.
        classes: the network's number of classes.
        treatment: normalization and augmentation.
        validation: fraction of the training images held_out out for validation, chosen by the seed.
        subset: train on this many of the remaining images.
        seed: of both choices, which are stratified by class.
        statistics: of a run, to normalize images as it did; default: the treatment's.

    Raises:
        UsageError: there is no such data set, or it does not fit the network.
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
            raise UsageError("digits come with scikit-learn and take no path")
        case "folder":
            raise UsageError("name the folder: --data folder:PATH")
        case "synthetic":
            raise UsageError(f"synthetic:{path}: expected a number of images")
    raise UsageError(f"there is no data set {name!r}; choose from {', '.join(NAMES)}")


def _check_fit(name: str, contents: Contents, shape: Shape, classes: int) -> None:
    own, count = contents.train.shape, len(contents.classes)
    if own == shape and count == classes:
        return
    names = ("input.channels", "input.height", "input.width", "classifier.classes")
    changes = [
        f"--set {key}={has}"
        for key, has, takes in zip(names, (*own, count), (*shape, classes), strict=True)
        if has != takes
    ]
    raise UsageError(
        f"{name} has images of {_shape_text(own)} in {count} classes, the network takes "
        f"{_shape_text(shape)} in {classes}: use other data, or change the network: "
        f"{' '.join(changes)}"
    )


def _shape_text(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _split(
    name: str, contents: Contents, validation: float, subset: int | None, seed: int
) -> dict[str, Part]:
    if seed < 0:
        raise UsageError(f"a seed must be at least 0, not {seed}")
    if not 0 <= validation < 1:
        raise UsageError(
            f"the validation fraction must be at least 0 and below 1, not {validation}"
        )
    labels = contents.train.labels
    rows = np.arange(len(labels))
    parts: dict[str, Part] = {}
    if validation and contents.validation is not None:
        raise UsageError(f"{name} already has a validation set, val/: remove --validation")
    if contents.validation is not None:
        parts["validation"] = Part(contents.validation, np.arange(len(contents.validation.labels)))
    if validation:
        count = round(validation * len(labels))
        if not 0 < count < len(labels):
            raise UsageError(
                f"{validation:g} of {len(labels)} images is {count}: one part is empty"
            )
        held_out = stratified(labels, count, generator(Purpose.VALIDATION, seed))
        parts["validation"] = Part(contents.train, held_out)
        rows = np.setdiff1d(rows, held_out)
    if subset is not None:
        if not 0 < subset <= len(rows):
            raise UsageError(f"{name} has {len(rows)} training images, so no subset of {subset}")
        chosen = stratified(labels[rows], subset, generator(Purpose.SUBSET, seed))
        rows = rows[chosen]
    if contents.test is not None:
        parts["test"] = Part(contents.test, np.arange(len(contents.test.labels)))
    return {"train": Part(contents.train, rows), **parts}
