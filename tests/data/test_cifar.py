"""CIFAR's two versions, in folders and tar files; pickles that want more than images."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliquegraph.data import Treatment, open_data
from cliquegraph.data.cifar import CIFAR10, CIFAR100, Cifar, read_cifar
from cliquegraph.data.pickles import read_pickle
from cliquegraph.diagnostics.errors import DataError, UsageError

PER_FILE = 3
SETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}


@dataclass
class Written:
    """What was written, by file."""

    cifar: Cifar
    images: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        for name in (*self.cifar.train, self.cifar.test):
            self.images[name] = random.integers(0, 256, (PER_FILE, 3072), np.uint8)
            self.labels[name] = random.integers(0, self.cifar.classes, PER_FILE)

    @property
    def names(self) -> list[str]:
        return [f"class_{label}" for label in range(self.cifar.classes)]

    def python(self, folder: Path, protocol: int = 2) -> Path:
        folder = folder / self.cifar.folders[0]
        folder.mkdir()
        for name, images in self.images.items():
            found = {
                b"batch_label": b"one of them",
                b"data": images,
                self.cifar.labels.encode(): self.labels[name].tolist(),
            }
            (folder / name).write_bytes(pickle.dumps(found, protocol))
        names = {self.cifar.names.encode(): [name.encode() for name in self.names]}
        (folder / self.cifar.meta[0]).write_bytes(pickle.dumps(names, protocol))
        return folder

    def binary(self, folder: Path) -> Path:
        folder = folder / self.cifar.folders[1]
        folder.mkdir()
        for name, images in self.images.items():
            pairs = zip(images, self.labels[name], strict=True)
            coarse = b"\x07" * (self.cifar.label_bytes - 1)
            records = (coarse + bytes([label]) + image.tobytes() for image, label in pairs)
            (folder / f"{name}.bin").write_bytes(b"".join(records))
        (folder / self.cifar.meta[1]).write_text("\n".join(self.names) + "\n\n")
        return folder

    def check(self, reference: str) -> None:
        data = open_data(
            reference,
            shape=(3, 32, 32),
            classes=self.cifar.classes,
            treatment=Treatment("unit"),
        )
        assert data.classes == tuple(self.names)
        for part, files in (("train", self.cifar.train), ("test", (self.cifar.test,))):
            count = PER_FILE * len(files)
            (batch,) = data.evaluation(part, count).epoch(0)
            images = np.concatenate([self.images[name] for name in files]).reshape(-1, 3, 32, 32)
            assert np.allclose(batch.images, images / 255, atol=1e-6)
            labels = np.concatenate([self.labels[name] for name in files])
            assert np.array_equal(batch.labels, labels)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("how", ["its folder", "the folder above", "tar", "folder of the tar"])
def test_what_is_written_is_read(tmp_path: Path, name: str, version: str, how: str) -> None:
    written = Written(SETS[name])
    folder = getattr(written, version)(tmp_path)
    places = {"its folder": folder, "the folder above": tmp_path, "folder of the tar": tmp_path}
    if "tar" in how:
        tar = tmp_path / written.cifar.tars[version == "binary"]
        with tarfile.open(tar, "w:gz") as opened:
            opened.add(folder, folder.name)
        for file in folder.iterdir():
            file.unlink()
        places["tar"] = tar
    written.check(f"{name}:{places[how]}")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    written = Written(CIFAR10)
    written.check(f"cifar10:{written.python(tmp_path, protocol)}")


# What Python 2.7 and NumPy 1 wrote for {'data': numpy.array([[1, 2]], 'u1')}, protocol 2.
PYTHON_2 = (
    b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
    b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01"
    b"\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x02tbs."
)


def test_the_pickle_of_python_2() -> None:
    assert read_pickle("old", io.BytesIO(PYTHON_2))["data"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PYTHON_2.replace(b"U\x02\x01\x02tb", b"]tb"), "an array of objects"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
            "text as 'zip'",
        ),
    ],
)
def test_a_forged_pickle(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"forged: .*{message}"):
        read_pickle("forged", io.BytesIO(content))


def test_the_binary_version_is_mapped(tmp_path: Path) -> None:
    contents = read_cifar(Written(CIFAR10).binary(tmp_path), CIFAR10)
    array = contents.train.arrays[0]  # type: ignore[attr-defined]
    while not isinstance(array, np.memmap):
        assert array.base is not None, "a copy"
        array = array.base


@given(length=st.integers(0, PER_FILE * 3073 - 1))
def test_a_truncated_binary_file(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    folder = Written(CIFAR10).binary(tmp_path_factory.mktemp("cifar"))
    path = folder / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:length])
    if length and length % 3073 == 0:
        assert len(read_cifar(folder, CIFAR10).train.labels) < 5 * PER_FILE
        return
    with pytest.raises(DataError, match=rf"data_batch_3\.bin: truncated at byte {length}, in"):
        read_cifar(folder, CIFAR10)


@given(share=st.floats(0, 0.999))
def test_a_truncated_pickle(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = Written(CIFAR10).python(tmp_path_factory.mktemp("cifar"))
    path = folder / "data_batch_2"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"data_batch_2: truncated, .* at byte \d+"):
        read_cifar(folder, CIFAR10)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_a_truncated_tar_file(tmp_path: Path, share: float) -> None:
    folder = Written(CIFAR10).python(tmp_path)
    path = tmp_path / "mine.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"mine\.tar\.gz: truncated or damaged at byte \d+"):
        read_cifar(path, CIFAR10)


def test_a_label_of_no_class(tmp_path: Path) -> None:
    written = Written(CIFAR100)
    written.labels["train"][1] = 100
    message = r"train\.bin: the label at byte 3075 is 100, but there are 100 classes"
    with pytest.raises(DataError, match=message):
        read_cifar(written.binary(tmp_path), CIFAR100)
    with pytest.raises(DataError, match=r"train: 'fine_labels'\[1\] is 100"):
        read_cifar(written.python(tmp_path), CIFAR100)


def test_the_files_of_the_other_set(tmp_path: Path) -> None:
    folder = Written(CIFAR10).python(tmp_path)
    with pytest.raises(UsageError, match=r"no train, train\.bin .*cifar-100-python\.tar\.gz"):
        open_data(f"cifar100:{folder}", shape=(3, 32, 32), classes=100, treatment=Treatment())
    tar = tmp_path / "mine.tar"
    with tarfile.open(tar, "w") as opened:
        opened.add(folder, folder.name)
    with pytest.raises(DataError, match=r"mine\.tar: train is missing"):
        read_cifar(tar, CIFAR100)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    folder = Written(CIFAR10).binary(tmp_path)
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(UsageError, match=r"has no data_batch_4\.bin: put https://.*into"):
        open_data(f"cifar10:{folder}", shape=(3, 32, 32), classes=10, treatment=Treatment())


class Harm:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "harm",
    [
        Harm(os.system, "touch harmed"),
        Harm(eval, "open('harmed', 'w')"),
        Harm(getattr, "text", "upper"),
        Harm(np.save, "harmed", np.zeros(1)),
        Harm(np.memmap, "harmed", "u1", "w+", 0, (1,)),
    ],
)
def test_a_pickle_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Harm, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({b"data": harm}, protocol)
    with pytest.raises(DataError, match=r"batch: .* it uses \w+\.\w+, which images don't need"):
        read_pickle("batch", io.BytesIO(content))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({b"data": np.array([object()], object)[:0]}, "an array of type 'O8'"),
        ({b"data": np.zeros(3, np.float32)}, "an array of type 'f4'"),
        ({b"data": np.zeros(3, [("a", "u1")])}, "an array of type 'V1'"),
        ([1, 2], "a pickle of a list, not of a dictionary"),
    ],
)
def test_a_pickle_of_something_else(found: object, message: str) -> None:
    with pytest.raises(DataError, match=f"batch: .*{message}"):
        read_pickle("batch", io.BytesIO(pickle.dumps(found, 2)))


def test_an_array_can_not_claim_more_than_its_bytes() -> None:
    content = pickle.dumps({b"data": np.zeros((2, 3), np.uint8)}, 2)
    larger = content.replace(b"K\x02K\x03\x86", b"K\x09K\x03\x86")
    assert larger != content
    with pytest.raises(DataError, match="cannot reshape array of size 6"):
        read_pickle("batch", io.BytesIO(larger))


@given(content=st.binary(max_size=64))
def test_any_bytes_are_refused_or_a_dictionary(content: bytes) -> None:
    try:
        assert isinstance(read_pickle("noise", io.BytesIO(content)), dict)
    except DataError:
        return


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({b"data": None}, "'data' is missing; the keys are batch_label, labels"),
        ({b"data": [1, 2]}, "'data' is not an array of bytes"),
        ({b"data": np.zeros((3, 5), np.uint8)}, r"'data' has shape \(3, 5\), must be \(N, 3072\)"),
        ({b"labels": [1, 2]}, "'labels' does not hold one number for each image"),
        ({b"labels": ["a", "b", "c"]}, "'labels' does not hold one number for each image"),
    ],
)
def test_a_dictionary_of_something_else(
    tmp_path: Path, changes: dict[bytes, Any], message: str
) -> None:
    folder = Written(CIFAR10).python(tmp_path)
    path = folder / "test_batch"
    found = {**pickle.loads(path.read_bytes()), **changes}  # noqa: S301 (written above)
    path.write_bytes(pickle.dumps({k: v for k, v in found.items() if v is not None}, 2))
    with pytest.raises(DataError, match=f"test_batch: {message}"):
        read_cifar(folder, CIFAR10)
