"""The weights that training starts from."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from cliquegraph import load
from cliquegraph.compiler import Compilation
from cliquegraph.ir.storage import check_tensors
from cliquegraph.weights.initial import initial_tensors


def test_the_papers_initialisation() -> None:
    graph = Compilation(load("specs/cliquenet_s3.yaml", ["blocks.*.filters=40"])).lowered
    tensors = initial_tensors(graph, 5)
    check_tensors(graph, tensors)
    for name, array in tensors.items():
        assert array.dtype == np.float64
        if array.ndim == 4 and array.size > 10_000:
            fan_in = array[0].size
            assert array.std() == pytest.approx(sqrt(2 / fan_in), rel=0.05), name
    classifier = tensors["classifier.weight"]
    outputs, inputs = classifier.shape
    assert np.abs(classifier).max() == pytest.approx(sqrt(6 / (inputs + outputs)), rel=0.01)
    assert not tensors["classifier.bias"].any()


def test_a_part_that_networks_share_starts_alike() -> None:
    full = initial_tensors(Compilation(load("specs/quickstart.yaml")).lowered, 1)
    partial = load("specs/quickstart.yaml", ["blocks.*.layers=3"])
    fewer = initial_tensors(Compilation(partial, 2).lowered, 1)
    assert np.array_equal(full["block1.w1_2.weight"], fewer["block1.w1_2.weight"])
    other = initial_tensors(Compilation(partial).lowered, 2)
    assert not np.array_equal(other["block1.w1_2.weight"], fewer["block1.w1_2.weight"])
