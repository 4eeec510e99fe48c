"""Batches are a function of seed, epoch and step, whatever the ranks and the consumer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter

from cliquegraph.data import (
    PADDING,
    Augmentation,
    Batch,
    Dataset,
    Statistics,
    Treatment,
    open_data,
    prefetched,
)
from cliquegraph.data.dataset import ImageDataset, Part
from cliquegraph.data.source import Arrays
from cliquegraph.data.split import stratified
from cliquegraph.data.treatment import Shift, normalize, pad_crop_flip
from cliquegraph.diagnostics.errors import UsageError

SHAPE = (3, 12, 10)
AUGMENTATIONS = get_args(Augmentation)


def opened(augmentation: Augmentation = "none", count: int = 70, **options: object) -> Dataset:
    return open_data(
        f"synthetic:{count}",
        shape=SHAPE,
        classes=5,
        treatment=Treatment("standard", augmentation),
        **options,  # type: ignore[arg-type]
    )


def same(found: Iterable[Batch], expected: Iterable[Batch]) -> bool:
    return all(
        np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        for a, b in zip(found, expected, strict=True)
    )


def joined(shares: Iterable[Batch]) -> Batch:
    parts = list(shares)
    return Batch(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


# ---- determinism ---------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_the_union_over_ranks_has_the_same_bits(augmentation: Augmentation, ranks: int) -> None:
    data = opened(augmentation)
    whole = data.training(12, seed=5).epoch(2)
    shares = [data.training(12, seed=5, rank=rank, ranks=ranks).epoch(2) for rank in range(ranks)]
    assert same(map(joined, zip(*shares, strict=True)), whole)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@given(start=st.integers(0, 6), seed=st.integers(0, 2**40), epoch=st.integers(0, 400))
def test_an_epoch_goes_on_where_it_was_left(
    augmentation: Augmentation, start: int, seed: int, epoch: int
) -> None:
    batches = opened(augmentation).training(12, seed=seed)
    assert len(batches) == 5
    assert same(batches.epoch(epoch, start), list(batches.epoch(epoch))[start:])


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_seed_epoch_and_step_each_count(augmentation: Augmentation) -> None:
    data = opened(augmentation)
    found = [
        batch.images.tobytes()
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
        for batch in data.training(12, seed=seed).epoch(epoch)
    ]
    assert len(set(found)) == len(found) == 45


def test_an_epoch_shows_every_image_once() -> None:
    batches = opened(count=72).training(12)
    seen = [image.tobytes() for batch in batches.epoch(3) for image in batch.images]
    assert len(set(seen)) == len(seen) == batches.count == 72
    other = [image.tobytes() for batch in batches.epoch(4) for image in batch.images]
    assert set(other) == set(seen)
    assert other != seen


def test_an_incomplete_batch_is_dropped() -> None:
    batches = opened(count=71).training(12)
    assert (len(batches), batches.count) == (5, 60)


def test_other_processes_see_the_same() -> None:
    script = f"""
import hashlib
from cliquegraph.data import Treatment, open_data
treatment = Treatment("standard", "pad_crop_flip")
data = open_data("synthetic:70", shape={SHAPE}, classes=5, treatment=treatment, validation=0.1)
found = hashlib.sha256()
for batch in data.training(12, seed=9).epoch(1):
    found.update(batch.images.tobytes() + batch.labels.tobytes())
import sys
loaded = [name for name in ("torch", "jax", "PIL", "scipy", "sklearn") if name in sys.modules]
print(found.hexdigest(), loaded)
"""
    run = [sys.executable, "-c", script]
    found = {
        subprocess.run(
            run, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed,
            "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    (line,) = found
    assert line.endswith(" []\n"), "only NumPy is imported"


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_evaluation_shows_every_image_in_order(ranks: int) -> None:
    data = opened("pad_crop_flip", count=34)
    shares = [data.evaluation("train", 8, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert {len(share) for share in shares} == {5}
    found = [joined(each) for each in zip(*(share.epoch(0) for share in shares), strict=True)]
    assert all(batch.images.shape == (8, *SHAPE) for batch in found)
    labels = np.concatenate([batch.labels for batch in found])
    assert labels.tolist() == [index % 5 for index in range(34)] + [PADDING] * 6
    assert shares[0].count == 34
    assert same(shares[0].epoch(0, 3), list(shares[0].epoch(7))[3:])


# ---- what can't be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "share", "message"),
    [
        (72, {}, "70 training images, fewer than a batch of 72: use --batch-size 70 or less"),
        (9, {"ranks": 2}, "9 images can't be divided by 2 ranks"),
        (8, {"rank": 2, "ranks": 2}, "no rank 2 of 2"),
        (0, {}, "the batch size must be at least 1, not 0"),
    ],
)
def test_batches_that_can_not_be(size: int, share: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened().training(size, **share)


def test_parts_that_there_are_not() -> None:
    message = "synthetic has no part 'validation'; it has train, test"
    with pytest.raises(UsageError, match=message):
        opened().evaluation("validation", 8)


# ---- splits --------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_a_stratified_choice_keeps_shares(sizes: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = int(share * len(labels))
    rows = stratified(labels, count, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == count
    assert np.array_equal(rows, np.sort(rows))
    taken = np.bincount(labels[rows], minlength=len(sizes))
    assert np.all(np.abs(taken - np.array(sizes) * count / len(labels)) <= 1)
    fewer = stratified(labels, count // 2, np.random.default_rng(seed))
    assert set(fewer.tolist()) <= set(rows.tolist())


def rows_of(data: Dataset) -> dict[str, list[int]]:
    assert isinstance(data, ImageDataset)
    return {name: part.rows.tolist() for name, part in data.contents.items()}


def test_parts_share_no_image() -> None:
    whole = rows_of(opened())
    found = rows_of(opened(validation=0.2, seed=3))
    assert sorted(found["train"] + found["validation"]) == whole["train"]
    assert found["test"] == whole["test"]
    labels = opened(validation=0.2, seed=3).evaluation("validation", 14)
    (batch,) = labels.epoch(0)
    assert np.bincount(batch.labels, minlength=5).max() - np.bincount(batch.labels).min() <= 1


def test_the_validation_part_depends_on_the_seed_alone() -> None:
    found = rows_of(opened(validation=0.2, seed=3))["validation"]
    assert found == rows_of(opened(validation=0.2, seed=3, subset=10))["validation"]
    assert found == rows_of(opened("pad_crop_flip", validation=0.2, seed=3))["validation"]
    assert found != rows_of(opened(validation=0.2, seed=4))["validation"]


def test_a_subset_is_of_what_is_trained_on() -> None:
    whole, found = (
        rows_of(opened(validation=0.2, seed=3, **options)) for options in ({}, {"subset": 10})
    )
    assert len(found["train"]) == 10
    assert set(found["train"]) < set(whole["train"])
    assert found["test"] == whole["test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": 71}, "70 training images, so no subset of 71"),
        ({"subset": 0}, "no subset of 0"),
        ({"validation": 1.0}, "below 1, not 1.0"),
        ({"validation": -0.1}, "the validation fraction must be at least 0"),
        ({"validation": 0.001}, "0.001 of 70 images is 0"),
        ({"seed": -1}, "a seed must be at least 0, not -1"),
        (
            {"statistics": Statistics((0.0,), (1.0,))},
            "statistics for 1 channels, but images have 3",
        ),
    ],
)
def test_splits_that_can_not_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(**options)


# ---- normalisation and augmentation --------------------------------------------------------


def images_of(data: Dataset, part: str) -> NDArray[np.float32]:
    batches = data.evaluation(part, 2)
    return np.concatenate([batch.images for batch in batches.epoch(0)])


def test_standard_images_have_mean_0_and_deviation_1() -> None:
    for options in ({}, {"subset": 20}, {"validation": 0.4}):
        data = opened(count=100, **options)
        images = images_of(data, "train")
        assert images.mean(axis=(0, 2, 3)) == pytest.approx(np.zeros(3), abs=1e-5)
        assert images.std(axis=(0, 2, 3)) == pytest.approx(np.ones(3), abs=1e-5)
        assert abs(images_of(data, "test").mean()) > 1e-5, "they are those of the training part"


def test_a_channel_that_is_constant_is_no_division_by_zero() -> None:
    pixels = np.full((4, 1, 2, 2), 51, np.uint8)
    assert normalize(pixels, Statistics((0.2,), (1.0,))) == pytest.approx(0, abs=1e-6)
    from cliquegraph.data.statistics import measure

    source = Arrays([pixels], np.zeros(4, np.int64))
    assert measure(source, np.arange(4)) == Statistics((0.2,), (1.0,))


def test_statistics_of_imagenet_and_of_a_run() -> None:
    data = open_data("synthetic:8", shape=SHAPE, classes=5, treatment=Treatment("imagenet"))
    assert data.statistics == Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(UsageError, match="have 3 channels, but the images have 1: choose the"):
        open_data("synthetic", shape=(1, 8, 8), classes=5, treatment=Treatment("imagenet"))
    written = json.dumps(opened(subset=20).statistics.to_json())
    stored = TypeAdapter(Statistics).validate_json(written, strict=True)
    assert stored == opened(subset=20).statistics != opened().statistics
    data = opened(statistics=stored)
    assert np.array_equal(images_of(data, "test"), images_of(opened(subset=20), "test"))


def test_a_crop_of_padded_images() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 2, 5, 7), np.uint8)
    statistics = Statistics((0.4, 0.6), (0.2, 0.3))
    shift = Shift(
        np.array([4, 0, 8, 3, 8, 4]),
        np.array([4, 0, 8, 6, 0, 5]),
        np.array([False, False, False, True, True, True]),
    )
    found = pad_crop_flip(pixels, statistics, shift)
    mean, std = (np.array(each)[:, None, None] for each in (statistics.mean, statistics.std))
    for image, down, right, flipped, result in zip(
        (pixels / 255 - mean) / std, shift.down, shift.right, shift.flipped, found, strict=True
    ):
        expected = np.pad(image, ((0, 0), (4, 4), (4, 4)))[:, down : down + 5, right : right + 7]
        assert np.allclose(result, expected[..., ::-1] if flipped else expected, atol=1e-5)


def one_pixel() -> ImageDataset:
    """400 dark images with a bright pixel, which tells where an image went."""
    pixels = np.zeros((400, 1, 20, 20), np.uint8)
    pixels[:, 0, 8, 5] = 255
    part = Part(Arrays([pixels], np.zeros(400)), np.arange(400))
    treatment = Treatment("unit", "pad_crop_flip")
    return ImageDataset("pixel", ("it",), treatment, Statistics((0.0,), (1.0,)), {"train": part})


def test_every_crop_and_flip_happens_about_as_often() -> None:
    places = np.zeros((20, 20), int)
    for epoch in range(20):
        for batch in one_pixel().training(100, seed=1).epoch(epoch):
            _, _, rows, columns = np.nonzero(batch.images)
            assert len(rows) == 100
            np.add.at(places, (rows, columns), 1)
    rows, columns = np.nonzero(places)
    assert set(rows) == set(range(4, 13))
    assert set(columns) == {*range(1, 10), *range(10, 19)}
    mean = 8000 / (9 * 18)
    assert np.all(np.abs(places[places > 0] - mean) < 6 * mean**0.5)


def test_crops_differ_between_seeds_epochs_and_steps() -> None:
    found = [
        batch.images.tobytes()
        for seed in (0, 1)
        for epoch in (0, 1)
        for batch in one_pixel().training(100, seed=seed).epoch(epoch)
    ]
    assert len(set(found)) == len(found) == 16


# ---- prefetching ---------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_batches_made_ahead_are_the_same(augmentation: Augmentation) -> None:
    batches = opened(augmentation).training(12)
    assert same(prefetched(batches.epoch(1)), batches.epoch(1))
