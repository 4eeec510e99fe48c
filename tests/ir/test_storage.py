"""Canonical tensors to the storage of any graph and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from cliquegraph import NetworkSpec, optimise, sample_tensors
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.names import param_name, tensor_name
from cliquegraph.ir.storage import from_storage, to_storage
from cliquegraph.passes.pipeline import LEVELS
from tests.networks import EVERY_KEY, clique, graph_of, networks


@given(networks())
@settings(max_examples=40)
def test_to_storage_and_back(spec: NetworkSpec) -> None:
    lowered = graph_of(spec)
    levels = [optimise(lowered, level) for level in LEVELS]
    tensors = sample_tensors(levels[-1])  # where statistics are stored once, they agree
    for graph in (lowered, *levels):
        storage = to_storage(graph, tensors)
        assert all(held.shape == param.shape for param, held in storage.items())
        back = from_storage(storage)
        assert back.keys() == tensors.keys()
        assert all(np.array_equal(back[name], array) for name, array in tensors.items())


def test_a_bank_holds_its_kernels_side_by_side() -> None:
    graph = optimise(graph_of(clique(order=(2, 3, 1))), 0)
    tensors = sample_tensors(graph)
    storage = {param_name(p): held for p, held in to_storage(graph, tensors).items()}
    kernels = [tensors[f"block1.w{i}_1.weight"] for i in (0, 2, 3)]
    assert np.array_equal(storage["block1.w1.weight"], np.concatenate(kernels, axis=1))


def test_parameters_left_out_leave_out_their_tensors() -> None:
    graph = optimise(graph_of(clique()))
    storage = to_storage(graph, sample_tensors(graph))
    running = {p: held for p, held in storage.items() if not p.field.trainable}
    names = from_storage(running).keys()
    assert names
    assert all(name.endswith((".mean", ".var")) for name in names)


def test_long_lists_of_faults_are_cut() -> None:
    graph = graph_of(clique(layers=4))
    with pytest.raises(WeightsError, match=r"  \d+ missing:\n(    \S+\n){10}    and \d+ more"):
        to_storage(graph, {})


def test_statistics_that_are_stored_once_may_be_no_number_alike() -> None:
    graph = optimise(graph_of(clique()), 1)
    param = next(param for param in graph.params if param.mirrors)
    tensors = sample_tensors(graph)
    (piece,) = param.pieces
    for pieces in (param.pieces, *param.mirrors):
        for each in pieces:
            tensors[tensor_name(each.tensor)][each.start : each.stop] = np.nan
    assert np.isnan(to_storage(graph, tensors)[param]).all()
    tensors[tensor_name(piece.tensor)][piece.start] = 0.0
    with pytest.raises(WeightsError, match="are the running statistics of one feature"):
        to_storage(graph, tensors)


def test_a_sample_depends_on_the_seed_and_not_on_the_level() -> None:
    lowered = graph_of(EVERY_KEY["schedule"])
    one, packed, other = (
        sample_tensors(lowered, 0),
        sample_tensors(optimise(lowered, 0), 0),
        sample_tensors(lowered, 1),
    )
    assert one.keys() == packed.keys() == other.keys()
    assert all(np.array_equal(one[name], packed[name]) for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in one)


def test_a_sample_for_statistics_that_are_stored_once_differs_in_them_alone() -> None:
    lowered = graph_of(EVERY_KEY["schedule"])
    own, shared = (sample_tensors(graph) for graph in (lowered, optimise(lowered, 1)))
    differing = {name for name in own if not np.array_equal(own[name], shared[name])}
    assert differing
    assert all(name.endswith((".mean", ".var")) for name in differing)


def test_a_sample_leaves_no_tensor_at_its_initial_value() -> None:
    for name, array in sample_tensors(graph_of(EVERY_KEY["abc"])).items():
        assert not np.any(array == 0), name
        assert not np.any(array == 1), name
        if name.endswith(".var"):
            assert array.min() > 0
