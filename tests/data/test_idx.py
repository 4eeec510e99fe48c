"""IDX files: MNIST and Fashion-MNIST, plain and gzipped, whole and not."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cliquegraph.data import Treatment, open_data
from cliquegraph.data.idx import FASHION, read_idx
from cliquegraph.diagnostics.errors import DataError, UsageError

REAL = Path("/usr/share/datasets/fashion-mnist")


def idx(array: NDArray[np.uint8]) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim))
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_set(folder: Path, end: str, labels: int = 12, bad_label: int | None = None) -> None:
    random = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = random.integers(0, 256, (12, 6, 5), np.uint8)
        numbers = (np.arange(labels) % 10).astype(np.uint8)
        if bad_label is not None:
            numbers[bad_label] = 10
        write(folder / f"{part}-images-idx3-ubyte{end}", idx(images))
        write(folder / f"{part}-labels-idx1-ubyte{end}", idx(numbers))


@pytest.mark.parametrize("end", ["", ".gz"])
def test_what_is_written_is_read(tmp_path: Path, end: str) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    found = read_idx(write(tmp_path / f"images{end}", idx(array)), 3)
    assert np.array_equal(found, array)
    assert isinstance(found, np.memmap) == (end == "")


@pytest.mark.parametrize("end", ["", ".gz"])
@given(length=st.integers(0, 16 + 24 - 1))
def test_a_truncation_is_named_with_its_offset(
    tmp_path_factory: pytest.TempPathFactory, end: str, length: int
) -> None:
    whole = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    path = write(tmp_path_factory.mktemp("idx") / f"images{end}", whole[:length])
    with pytest.raises(DataError, match=rf"images.*: truncated at byte {length}\b"):
        read_idx(path, 3)


def test_a_truncated_gzip_file_ends_with_what_could_be_unpacked(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (64, 8, 8), np.uint8)
    packed = gzip.compress(idx(array))
    path = tmp_path / "images.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"images\.gz: (truncated at|damaged after) byte \d+ of"):
        read_idx(path, 3)
    path.write_bytes(packed[:100] + b"\xff" * 40 + packed[140:])
    with pytest.raises(DataError, match=r"images\.gz: damaged after byte \d+ of the unpacked data"):
        read_idx(path, 3)
    path.write_bytes(b"no gzip file at all")
    with pytest.raises(DataError, match=r"images\.gz: damaged after byte 0"):
        read_idx(path, 3)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_file_that_is_too_long(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / f"labels{end}", idx(np.zeros(4, np.uint8)) + b"x")
    with pytest.raises(DataError, match="has data after byte 12"):
        read_idx(path, 1)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = write(tmp_path / "images", idx(np.zeros(400, np.uint8)))
    with pytest.raises(DataError, match="starts with 00000801 at byte 0, not with 00000803"):
        read_idx(path, 3)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_set(tmp_path: Path, end: str) -> None:
    write_set(tmp_path, end)
    data = open_data(f"mnist:{tmp_path}", shape=(1, 6, 5), classes=10, treatment=Treatment("unit"))
    assert data.parts == ("train", "test")
    assert data.classes == tuple("0123456789")
    (batch,) = data.evaluation("test", 12).epoch(0)
    assert batch.labels.tolist() == [*range(10), 0, 1]
    random = np.random.default_rng(0)
    random.integers(0, 256, (12, 6, 5), np.uint8)
    test = random.integers(0, 256, (12, 1, 6, 5), np.uint8)
    assert np.allclose(batch.images * 255, test, atol=1e-4)


def test_images_without_labels_and_labels_without_a_class(tmp_path: Path) -> None:
    write_set(tmp_path, ".gz", labels=11)
    message = r"train-images-idx3-ubyte.gz has 12 images, .*train-labels.* has 11 labels"
    with pytest.raises(DataError, match=message):
        open_data(f"mnist:{tmp_path}", shape=(1, 6, 5), classes=10, treatment=Treatment())
    write_set(tmp_path, ".gz", bad_label=3)
    with pytest.raises(DataError, match="label at byte 11 is 10, but there are 10 classes"):
        open_data(f"mnist:{tmp_path}", shape=(1, 6, 5), classes=10, treatment=Treatment())


def test_parts_of_different_sizes(tmp_path: Path) -> None:
    write_set(tmp_path, "")
    write(tmp_path / "t10k-images-idx3-ubyte", idx(np.zeros((12, 5, 5), np.uint8)))
    with pytest.raises(DataError, match=r"shape \(1, 6, 5\), test images \(1, 5, 5\)"):
        open_data(f"mnist:{tmp_path}", shape=(1, 6, 5), classes=10, treatment=Treatment())


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    write_set(tmp_path, ".gz")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UsageError) as caught:
        open_data(f"mnist:{tmp_path}", shape=(1, 6, 5), classes=10, treatment=Treatment())
    assert f"{tmp_path} has no t10k-labels-idx1-ubyte" in str(caught.value)
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz" in str(
        caught.value
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist() -> None:
    data = open_data("fashion-mnist", shape=(1, 28, 28), classes=10, treatment=Treatment())
    assert data.classes == FASHION
    train, test = data.training(100), data.evaluation("test", 100)
    assert (train.count, test.count) == (60_000, 10_000)
    # The figures that everyone has for its training images.
    assert data.statistics.mean == pytest.approx([0.2860], abs=1e-4)
    assert data.statistics.std == pytest.approx([0.3530], abs=1e-4)
    labels = np.concatenate([batch.labels for batch in train.epoch(0)])
    assert np.bincount(labels).tolist() == [6000] * 10
    first = next(iter(test.epoch(0))).labels[:5]
    assert [FASHION[label] for label in first] == [
        "Ankle boot", "Pullover", "Trouser", "Trouser", "Shirt"
    ]  # fmt: skip
