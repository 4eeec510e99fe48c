"""SVHN's MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliquegraph.data import Dataset, Treatment, open_data
from cliquegraph.data.svhn import read_svhn
from cliquegraph.diagnostics.errors import DataError, UsageError

io = pytest.importorskip("scipy.io")

LABELS = np.array([10, 1, 9, 5])


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, 3, 32, 32), np.uint8)


def write(folder: Path, part: str, seed: int, **changes: Any) -> Path:
    path = folder / f"{part}_32x32.mat"
    found = {"X": images(seed).transpose(2, 3, 1, 0), "y": LABELS[:, None].astype(np.uint8)}
    kept = {key: value for key, value in {**found, **changes}.items() if value is not None}
    io.savemat(path, kept, do_compression=True)
    return path


def opened(folder: Path) -> Dataset:
    return open_data(f"svhn:{folder}", shape=(3, 32, 32), classes=10, treatment=Treatment("unit"))


@pytest.mark.parametrize("extra", [False, True])
def test_what_is_written_is_read(tmp_path: Path, extra: bool) -> None:
    parts = ("train", "extra") if extra else ("train",)
    for seed, part in enumerate(("test", *parts)):
        write(tmp_path, part, seed)
    data = opened(tmp_path)
    count = 4 * len(parts)
    (batch,) = data.evaluation("train", count).epoch(0)
    expected = np.concatenate([images(seed) for seed in range(1, 1 + len(parts))])
    assert np.allclose(batch.images, expected / 255, atol=1e-6)
    assert batch.labels.tolist() == [0, 1, 9, 5] * len(parts)
    (batch,) = data.evaluation("test", 4).epoch(0)
    assert np.allclose(batch.images, images(0) / 255, atol=1e-6)
    assert data.training(count, seed=1).count == count


@given(share=st.floats(0, 0.99))
def test_a_truncated_file(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.mktemp("svhn")
    path = write(folder, "train", 0)
    write(folder, "test", 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        DataError, match=r"train_32x32\.mat: (truncated .*at byte \d+|\w is missing)"
    ):
        read_svhn(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "y is missing"),
        ({"X": np.zeros((32, 32, 3, 4))}, r"X is float64 \(32, 32, 3, 4\)"),
        ({"X": np.zeros((3, 32, 32, 4), np.uint8)}, "must be"),
        ({"y": np.ones(3)}, "4 images, but 3 labels"),
        ({"y": np.array([1, 2, 0, 4])}, r"y\[2\] is 0, must be from 1 to 10"),
    ],
)
def test_something_else(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path, "train", 0, **changes)
    with pytest.raises(DataError, match=rf"train_32x32\.mat: .*{message}"):
        read_svhn(tmp_path)


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    write(tmp_path, "train", 0)
    with pytest.raises(UsageError, match=r"has no test_32x32\.mat: put http://ufldl\..* into"):
        opened(tmp_path)
