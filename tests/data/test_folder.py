"""Folders of image files, and single images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cliquegraph.data import Batch, Dataset, Statistics, Treatment, load_image, open_data
from cliquegraph.data.pictures import center_crop, random_box
from cliquegraph.diagnostics.errors import DataError, UsageError

Image = pytest.importorskip("PIL.Image")

SHAPE = (3, 16, 16)
UNIT = Statistics((0.0,) * 3, (1.0,) * 3)
CROPS = Treatment("unit", "resized_crop_flip")


def save(path: Path, size: tuple[int, int] = (20, 24), mode: str = "RGB", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (*size[::-1], *channels), np.uint8)).save(path)
    return path


def fill(folder: Path, *parts: str, each: int = 4, classes: str = "abc") -> Path:
    for part in parts:
        for name in classes:
            for index in range(each):
                # ImageNet holds grey ones among the others, in all sizes.
                mode = "L" if index == 1 else "RGB"
                path = folder / part / f"n{name}" / f"{index}.{'JPEG' if index % 2 else 'png'}"
                save(path, (17 + index, 31 - index), mode, ord(name) + index)
    return folder


def opened(
    folder: Path, treatment: Treatment = CROPS, validation: float = 0.0, classes: int = 3
) -> Dataset:
    return open_data(
        f"folder:{folder}",
        shape=SHAPE,
        classes=classes,
        treatment=treatment,
        validation=validation,
    )


def epoch(data: Dataset, number: int = 0, **share: int) -> list[Batch]:
    return list(data.training(4, seed=1, **share).epoch(number))


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (("train",), ("train",)),
        (("train", "val"), ("train", "test")),
        (("train", "test"), ("train", "test")),
        (("train", "val", "test"), ("train", "validation", "test")),
    ],
)
def test_parts(tmp_path: Path, parts: tuple[str, ...], found: tuple[str, ...]) -> None:
    data = opened(fill(tmp_path, *parts))
    assert data.parts == found
    assert data.classes == ("na", "nb", "nc")
    for part in found:
        (batch,) = data.evaluation(part, 12).epoch(0)
        assert batch.images.shape == (12, *SHAPE)
        assert batch.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_imagenets_test_images_have_no_labels(tmp_path: Path) -> None:
    fill(tmp_path, "train", "val")
    save(tmp_path / "test" / "ILSVRC2012_test_1.JPEG")
    assert opened(tmp_path).parts == ("train", "test")


def test_what_is_no_image_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, "train")
    (tmp_path / "train" / "na" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "list.txt").write_text("no folder")
    assert opened(tmp_path).evaluation("train", 1).count == 12


def test_random_parts_are_the_same_whatever_the_ranks_and_differ_between_epochs(
    tmp_path: Path,
) -> None:
    data = opened(fill(tmp_path, "train"))
    whole = epoch(data)
    halves = [epoch(data, rank=rank, ranks=2) for rank in range(2)]
    for batch, *shares in zip(whole, *halves, strict=True):
        assert np.array_equal(batch.images, np.concatenate([share.images for share in shares]))
        assert np.array_equal(batch.labels, np.concatenate([share.labels for share in shares]))
    again, later = epoch(data), epoch(data, 1)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(whole, again, strict=True))
    assert not any(np.array_equal(a.images, b.images) for a, b in zip(whole, later, strict=True))


def test_a_random_part_lies_in_the_image() -> None:
    random = np.random.default_rng(0)
    areas = []
    for height, width in ((40, 50), (500, 375), (3, 900), (900, 3), (1, 1)):
        for _ in range(200):
            left, top, right, bottom = random_box(height, width, random.random((10, 4)))
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert 0.7 < (right - left) / (bottom - top) < 1.4 or min(height, width) < 4
            areas.append((right - left) * (bottom - top) / (height * width))
    large = areas[200:400]
    assert min(large) < 0.1 and max(large) > 0.9
    assert np.mean(large) == pytest.approx(0.5, abs=0.1)


def test_the_centre_is_what_imagenet_is_tested_on() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (128, 1))
    found = np.asarray(center_crop(Image.fromarray(ramp), (56, 56), 256 / 224))
    # The shorter side of 128 becomes 64; the 56 pixels in the middle were 112, from 72 to 184.
    assert found[0] == pytest.approx(np.arange(72.5, 184, 2), abs=1)
    exact = Image.fromarray(ramp[:, :128])
    assert center_crop(exact, (128, 128), 256 / 224) is exact


def test_standard_statistics_are_measured(tmp_path: Path) -> None:
    data = opened(fill(tmp_path, "train"), Treatment("standard"))
    (batch,) = data.evaluation("train", 12).epoch(0)
    assert batch.images.mean(axis=(0, 2, 3)) == pytest.approx(np.zeros(3), abs=1e-5)
    assert batch.images.std(axis=(0, 2, 3)) == pytest.approx(np.ones(3), abs=1e-5)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "train")
    for ending in ("png", "JPEG"):
        path = tmp_path / "train" / "nb" / f"{0 if ending == 'png' else 3}.{ending}"
        content = path.read_bytes()
        for length in (0, 10, len(content) // 2):
            path.write_bytes(content[:length])
            with pytest.raises(DataError, match=rf"nb/\d\.{ending}: can't read the image"):
                list(opened(tmp_path, Treatment("unit")).evaluation("train", 4).epoch(0))
        path.write_bytes(content)


def test_what_a_folder_has_to_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no train/CLASS/ folders"):
        opened(tmp_path)
    (tmp_path / "train" / "na").mkdir(parents=True)
    with pytest.raises(UsageError, match="train: no images"):
        opened(tmp_path, classes=1)
    fill(tmp_path, "train", "val")
    with pytest.raises(UsageError, match=r"network: --set classifier\.classes=3"):
        opened(tmp_path, classes=7)
    save(tmp_path / "val" / "nx" / "1.png")
    with pytest.raises(DataError, match=r"val/nx: no such class in .*train"):
        opened(tmp_path)
    fill(tmp_path, "test")
    with pytest.raises(UsageError, match="name the folder"):
        open_data("folder", shape=SHAPE, classes=3, treatment=CROPS)


def test_no_share_of_a_set_that_has_a_validation_part(tmp_path: Path) -> None:
    fill(tmp_path, "train", "val", "test")
    with pytest.raises(UsageError, match="already has a validation set"):
        opened(tmp_path, validation=0.1)


# ---- single images -------------------------------------------------------------------------


def test_an_image_is_treated_as_those_of_the_folder(tmp_path: Path) -> None:
    data = opened(fill(tmp_path, "train"), Treatment("standard", "resized_crop_flip"))
    (batch,) = data.evaluation("train", 12).epoch(0)
    found = load_image(
        tmp_path / "train" / "na" / "0.png",
        shape=SHAPE,
        statistics=data.statistics,
        treatment=Treatment("standard", "resized_crop_flip"),
    )
    assert found.shape == (1, *SHAPE) and found.dtype == np.float32
    assert np.array_equal(found[0], batch.images[0])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (40, 20), (7, 9)])
def test_any_image_becomes_what_the_network_takes(
    tmp_path: Path, mode: str, channels: int, size: tuple[int, int]
) -> None:
    statistics = Statistics((0.0,) * channels, (1.0,) * channels)
    path = save(tmp_path / "image.png", size, mode)
    shape = (channels, 16, 16)
    found = load_image(path, shape=shape, statistics=statistics, treatment=Treatment("unit"))
    assert found.shape == (1, *shape)
    if size == (16, 16) and mode == "RGB" and channels == 3:
        assert np.allclose(found[0] * 255, np.asarray(Image.open(path)).transpose(2, 0, 1))


def test_grey_of_sixteen_bits_is_grey_of_eight(tmp_path: Path) -> None:
    wide = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray((wide >> 8).astype(np.uint8)).save(tmp_path / "narrow.png")
    shape, one = (1, 16, 16), Statistics((0.0,), (1.0,))
    found = [
        load_image(tmp_path / f"{name}.png", shape=shape, statistics=one, treatment=Treatment())
        for name in ("wide", "narrow")
    ]
    assert np.array_equal(*found)
    assert found[0].max() == 1.0


def test_grey_whose_white_nobody_knows_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DataError, match="gray of mode F has no defined white"):
        load_image(tmp_path / "float.tiff", shape=SHAPE, statistics=UNIT, treatment=Treatment())


def test_statistics_of_other_channels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "image.png")
    with pytest.raises(UsageError, match="statistics for 3 channels, but images have 1"):
        load_image(path, shape=(1, 16, 16), statistics=UNIT, treatment=Treatment())


def test_images_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no image .*none\.png"):
        load_image(tmp_path / "none.png", shape=SHAPE, statistics=UNIT, treatment=Treatment())
    path = save(tmp_path / "image.png")
    with pytest.raises(UsageError, match="1 or 3 channels, but the network takes 4"):
        load_image(path, shape=(4, 16, 16), statistics=UNIT, treatment=Treatment())
    path.write_text("no image")
    with pytest.raises(DataError, match=r"image\.png: can't read the image"):
        load_image(path, shape=SHAPE, statistics=UNIT, treatment=Treatment())
