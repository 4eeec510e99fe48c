"""Names of data sets, what is missing, what does not fit; digits and synthetic images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cliquegraph.data import NAMES, Treatment, open_data
from cliquegraph.diagnostics.errors import UsageError

PLAIN = Treatment("unit")


@pytest.mark.parametrize(
    ("name", "urls"),
    [
        ("cifar10", ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]),
        ("cifar100", ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"]),
        (
            "svhn",
            [
                f"http://ufldl.stanford.edu/housenumbers/{part}_32x32.mat"
                for part in ("train", "test", "extra")
            ],
        ),
        ("mnist", ["https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz"]),
        ("fashion-mnist", ["t10k-labels-idx1-ubyte.gz", "apt-get install dataset-fashion-mnist"]),
    ],
)
def test_what_is_missing_is_said_with_where_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, urls: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "elsewhere"
    with pytest.raises(UsageError) as caught:
        open_data(f"{name}:{place}", shape=(3, 32, 32), classes=10, treatment=PLAIN)
    message = str(caught.value)
    assert message.startswith(f"{place} does not exist: put ")
    assert f"into {place}/" in message and f"use --data {name}:PATH" in message
    assert all(url in message for url in urls)
    place.mkdir()
    with pytest.raises(UsageError, match=rf"{place} has no .*: put .* into {place}/"):
        open_data(f"{name}:{place}", shape=(3, 32, 32), classes=10, treatment=PLAIN)
    if name != "fashion-mnist":  # which may be installed
        with pytest.raises(UsageError, match=f"data/{name} does not exist: put .* into "):
            open_data(name, shape=(3, 32, 32), classes=10, treatment=PLAIN)


def test_names_that_there_are_not() -> None:
    for reference in ("cifar", "", ":x", "CIFAR10"):
        with pytest.raises(UsageError, match=f"choose from {', '.join(NAMES)}"):
            open_data(reference, shape=(3, 32, 32), classes=10, treatment=PLAIN)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("digits:here", "come with scikit-learn and take no path"),
        ("synthetic:0", "synthetic:0: expected a number of images"),
        ("synthetic:many", "synthetic:many: expected a number of images"),
        ("folder:", "name the folder: --data folder:PATH"),
    ],
)
def test_paths_that_can_not_be(reference: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_data(reference, shape=(1, 8, 8), classes=10, treatment=PLAIN)


@pytest.mark.parametrize(
    ("shape", "classes", "takes", "changes"),
    [
        ((1, 28, 28), 10, "1×28×28 in 10", "--set input.height=8 --set input.width=8"),
        ((3, 8, 8), 10, "3×8×8 in 10", "--set input.channels=1"),
        ((1, 8, 8), 7, "1×8×8 in 7", "--set classifier.classes=10"),
    ],
)
def test_data_that_does_not_fit_the_network(
    shape: tuple[int, int, int], classes: int, takes: str, changes: str
) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(UsageError) as caught:
        open_data("digits", shape=shape, classes=classes, treatment=PLAIN)
    assert str(caught.value) == (
        f"digits has images of 1×8×8 in 10 classes, the network takes {takes}: "
        f"use other data, or change the network: {changes}"
    )


@pytest.mark.parametrize(
    ("reference", "module", "package"),
    [("digits", "sklearn.datasets", "scikit-learn"), ("svhn", "scipy.io", "scipy")],
)
def test_what_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "svhn").mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        open_data(reference, shape=(1, 8, 8), classes=10, treatment=PLAIN)
    assert str(caught.value).endswith(f": pip install {package}")


def test_pillow_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    treatment = Treatment("unit", "resized_crop_flip")
    data = open_data("synthetic", shape=(1, 8, 8), classes=10, treatment=treatment)
    with pytest.raises(UsageError, match="images need Pillow: pip install pillow"):
        next(iter(data.training(8).epoch(0)))


def test_digits_are_split_always_the_same_way() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    data = open_data("digits", shape=(1, 8, 8), classes=10, treatment=PLAIN, seed=1)
    again = open_data("digits", shape=(1, 8, 8), classes=10, treatment=PLAIN, seed=2)
    found = []
    for part, count in (("train", 1437), ("test", 360)):
        (batch,) = data.evaluation(part, count).epoch(0)
        (other,) = again.evaluation(part, count).epoch(0)
        assert np.array_equal(batch.images, other.images)
        assert np.all(np.abs(np.bincount(batch.labels) * 1797 / count - np.bincount(labels)) < 8)
        found += [*zip(np.round(batch.images * 16).reshape(-1, 64).tolist(), batch.labels.tolist())]  # noqa: B905
    expected = zip(images.tolist(), labels.tolist(), strict=True)
    assert sorted(found) == sorted((image, label) for image, label in expected)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 3, 5), (1, 1, 1), (3, 224, 224)])
def test_synthetic_images_are_of_any_shape(shape: tuple[int, int, int]) -> None:
    data = open_data("synthetic", shape=shape, classes=13, treatment=PLAIN)
    assert (data.training(64).count, data.evaluation("test", 64).count) == (4096, 1024)
    assert len(data.classes) == 13
    batch = next(iter(data.training(64).epoch(0)))
    assert batch.images.shape == (64, *shape)
    assert batch.images.min() >= 0 and batch.images.max() <= 1


def test_synthetic_images_can_be_learnt() -> None:
    """The nearest of the training images' class means names the test images."""
    data = open_data("synthetic:512", shape=(3, 16, 16), classes=10, treatment=Treatment())
    (train,) = data.evaluation("train", 512).epoch(0)
    (test,) = data.evaluation("test", 128).epoch(0)
    means = np.stack([train.images[train.labels == label].mean(axis=0) for label in range(10)])
    distances = ((test.images[:, None] - means) ** 2).sum(axis=(2, 3, 4))
    assert np.mean(distances.argmin(axis=1) == test.labels) > 0.95
    flat = np.concatenate([train.images, test.images]).reshape(640, -1)
    assert len(np.unique(flat, axis=0)) == 640, "no two images are the same"
