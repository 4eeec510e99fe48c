"""Scores: loss, top-1, top-5, confusion; sums over processes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from cliquegraph.data import PADDING
from cliquegraph.training.scores import Scores, Totals

RANDOM = np.random.default_rng(5)
LOGITS = 3 * RANDOM.normal(size=(64, 10))
LABELS = RANDOM.integers(0, 10, 64)


def scored(*rows: slice) -> Scores:
    scores = Scores(10)
    for each in rows:
        scores.add(LOGITS[each], LABELS[each])
    return scores


def test_they_are_those_of_scikit_learn() -> None:
    scores = scored(slice(0, 40), slice(40, 64))
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    assert scores.totals.mean_loss == pytest.approx(log_loss(LABELS, shares, labels=range(10)))
    assert scores.totals.accuracy == np.mean(LOGITS.argmax(1) == LABELS)
    assert scores.top5 == top_k_accuracy_score(LABELS, shares, k=5)
    assert np.array_equal(scores.confusion, confusion_matrix(LABELS, LOGITS.argmax(1)))


def test_images_that_fill_a_batch_do_not_count() -> None:
    scores = scored(slice(0, 40))
    scores.add(LOGITS[40:], np.full(24, PADDING))
    assert scores.totals == scored(slice(0, 40)).totals


def test_the_vectors_of_processes_add_up() -> None:
    parts = [scored(slice(0, 40)), scored(slice(40, 64))]
    scores = Scores(10)
    scores.unpack(parts[0].packed() + parts[1].packed())
    whole = scored(slice(0, 64))
    assert scores.totals.mean_loss == pytest.approx(whole.totals.mean_loss, rel=1e-14)
    assert scores.top5 == whole.top5
    assert np.array_equal(scores.confusion, whole.confusion)


def test_of_no_image_there_is_no_score() -> None:
    scores = Scores(3)
    assert np.isnan([scores.top5, scores.totals.accuracy, scores.totals.mean_loss]).all()
    assert Totals(1.0, 1, 2) + Totals(2.0, 0, 2) == Totals(3.0, 1, 4)


def test_what_is_no_number_is_no_hit() -> None:
    scores = Scores(10)
    scores.add(np.full((2, 10), np.nan), np.array([4, 0]))
    assert scores.top5 == scores.totals.accuracy == 0.0 and np.isnan(scores.totals.mean_loss)
    scores = Scores(10)
    scores.add(np.zeros((10, 10)), np.arange(10))  # all alike: none is known to be among five
    assert scores.top5 == 0.0
