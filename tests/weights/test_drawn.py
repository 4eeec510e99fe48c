"""Numbers that are drawn: of the distribution that is said, for every kind of tensor."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from cliquegraph import sample_tensors
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field, Init, Tensor
from cliquegraph.weights.initial import initial_tensors
from tests.networks import clique, graph_of

GRAPH = graph_of(clique(2, 64, bottleneck=True))
BY_NAME = {tensor_name(tensor): tensor for tensor in GRAPH.tensors}
KERNELS = [name for name, tensor in BY_NAME.items() if tensor.size > 4000]


def fan_in(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape[1:]))


def is_normal(array: Array, deviation: float) -> bool:
    """Whether many numbers lie as those of a centred normal distribution do."""
    shares = [np.mean(array < bound * deviation) for bound in (-1, 0, 1)]
    expected = (0.1587, 0.5, 0.8413)
    return bool(np.allclose(shares, expected, atol=0.06) and array.std() < 1.1 * deviation)


def is_uniform(array: Array, low: float, high: float) -> bool:
    quarters = np.quantile(array, (0.0, 0.25, 0.5, 0.75, 1.0))
    return bool(np.allclose(quarters, np.linspace(low, high, 5), atol=0.06 * (high - low)))


def together(tensors: dict[str, Array], field: Field) -> Array:
    arrays = [tensors[name].ravel() for name, tensor in BY_NAME.items() if tensor.field is field]
    return np.concatenate(arrays)


@pytest.mark.parametrize("name", KERNELS)
def test_first_kernels_are_as_the_paper_has_them(name: str) -> None:
    assert BY_NAME[name].init is Init.HE
    assert is_normal(initial_tensors(GRAPH)[name], sqrt(2 / fan_in(BY_NAME[name])))


def test_the_first_classifier_is_xaviers() -> None:
    classes, channels = BY_NAME["classifier.weight"].shape
    bound = sqrt(6 / (classes + channels))
    assert is_uniform(initial_tensors(GRAPH)["classifier.weight"], -bound, bound)


def test_first_normalisations_change_nothing() -> None:
    tensors = initial_tensors(GRAPH)
    for field, number in ((Field.SCALE, 1), (Field.VAR, 1), (Field.BIAS, 0), (Field.MEAN, 0)):
        assert (together(tensors, field) == number).all()


@pytest.mark.parametrize("name", KERNELS)
def test_sampled_kernels_have_the_variance_of_first_ones(name: str) -> None:
    assert is_normal(sample_tensors(GRAPH)[name], sqrt(2 / fan_in(BY_NAME[name])))


def test_what_else_is_sampled_would_show_a_mix_up() -> None:
    tensors = sample_tensors(GRAPH)
    assert is_uniform(together(tensors, Field.SCALE), 0.5, 1.5)
    assert is_uniform(together(tensors, Field.VAR), 0.5, 2.0)
    for field in (Field.BIAS, Field.MEAN):
        assert is_normal(together(tensors, field), 0.2)
