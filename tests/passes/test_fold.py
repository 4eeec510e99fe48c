"""Fold: what is constant in evaluation is folded, and the logits stay the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import cliquegraph
from cliquegraph import Graph, NetworkSpec, interpret, network_cost, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir import ops
from cliquegraph.ir.names import field_name, tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Biased
from cliquegraph.passes.fold import Fold, fold_tensors
from cliquegraph.passes.pipeline import BEFORE_FOLD, INFERENCE, run_passes
from tests.excerpts import before_and_after, golden
from tests.function import EXACT, error_between, images_for, with_reader
from tests.networks import EVERY_KEY, clique, graph_of, network, networks, shipped


def unfolded(spec: NetworkSpec) -> Graph:
    return run_passes(graph_of(spec), BEFORE_FOLD)


def folded(spec: NetworkSpec) -> Graph:
    return run_passes(graph_of(spec), INFERENCE)


def test_what_it_does_to_a_bottleneck() -> None:
    graph = unfolded(shipped("cliquenet_s0_star"))
    steps = ("block1, stage 1 layer 2", "block1, stage 2 layer 2")
    assert before_and_after(graph, Fold(), "stem", *steps, "transition1") == golden("fold")


def test_a_negative_variance_is_named() -> None:
    spec = clique()
    tensors = sample_tensors(graph_of(spec))
    tensors["block1.x2.s2.norm.var"][1] = -0.5
    with pytest.raises(WeightsError, match=r"^block1\.x2\.s2\.norm\.var: the running variance"):
        fold_tensors(unfolded(spec), tensors)


# ---- the function --------------------------------------------------------------------------


@given(networks())
@settings(max_examples=60)
def test_it_evaluates_to_the_same(spec: NetworkSpec) -> None:
    lowered = graph_of(spec)
    tensors = sample_tensors(lowered)  # each reader has statistics of its own
    images = images_for(lowered)
    found = interpret(folded(spec), fold_tensors(unfolded(spec), tensors), images)
    assert error_between(found, interpret(lowered, tensors, images)) < EXACT


@given(networks())
def test_nothing_is_left_that_training_moves(spec: NetworkSpec) -> None:
    graph = folded(spec)
    left = {type(node.op) for node in graph}
    assert left.isdisjoint({ops.BatchNorm, ops.Dropout, ops.Moments, ops.Normalize})
    assert all(tensor.field.trainable for tensor in graph.tensors)
    assert not graph.idle


@given(networks())
def test_a_normalization_goes_into_the_convolution_of_which_it_is_the_one_reader(
    spec: NetworkSpec,
) -> None:
    graph = folded(spec)
    for node in graph:
        if isinstance(node.op, ops.Affine):
            maker = graph.producers[node.inputs[0]]
            readers = graph.consumers[maker.output]
            assert not isinstance(maker.op, ops.Conv) or len(readers) > 1


def test_a_convolution_that_something_else_reads_stays_what_it_is() -> None:
    graph = unfolded(network({"layers": 2, "filters": 2}, stem={"filters": 3, "norm": True}))
    conv, norm = graph.nodes[1:3]
    assert isinstance(norm.op, ops.BatchNorm)
    after = run_passes(with_reader(graph, conv.output), [Fold()])
    assert after.nodes[1] is conv
    assert isinstance(after.nodes[2].op, ops.Affine)


@given(networks())
def test_no_convolution_is_lost_and_none_is_added(spec: NetworkSpec) -> None:
    before, after = unfolded(spec), folded(spec)
    assert network_cost(after).total.macs == network_cost(before).total.macs
    convolutions = [Counter(type(n.op) for n in graph)[ops.Conv] for graph in (before, after)]
    assert convolutions[0] == convolutions[1]


def test_a_kernel_of_one_step_alone_is_no_shared_one_either() -> None:
    # A clique of one layer reads all of its bank, and once.
    for changes in ({"bottleneck": True}, {"unit": "post_activation"}):
        spec = clique(layers=1, stages=1, **changes)
        held = [param for param in folded(spec).params if isinstance(param, Biased)]
        assert [field_name(param.slot, param.field) for param in held] == [
            "block1.x1.s1.conv.weight"
        ]
        assert cliquegraph.verify(spec, ["torch"], inference=True).ok


def test_a_kernel_that_stages_share_becomes_one_for_each_step_where_a_norm_goes_into_it() -> None:
    graph = folded(clique(layers=2, bottleneck=True))
    kernels = {
        (node.origin.stage, node.origin.layer, node.op.kernel): node.operands[0].param
        for node in graph
        if isinstance(node.op, ops.Conv) and node.origin.layer is not None
    }
    names = {place: tensor_name(param.pieces[0].tensor) for place, param in kernels.items()}
    assert names == {
        (1, 1, 1): "block1.x1.s1.conv.weight",
        (1, 2, 1): "block1.x2.s1.conv.weight",
        (2, 1, 1): "block1.x1.s2.conv.weight",
        (2, 2, 1): "block1.x2.s2.conv.weight",
        # Nothing normalizes what V(j) writes before another layer's output is beside it.
        (1, 1, 3): "block1.v1.weight",
        (1, 2, 3): "block1.v2.weight",
        (2, 1, 3): "block1.v1.weight",
        (2, 2, 3): "block1.v2.weight",
    }
    assert kernels[1, 1, 3] is kernels[2, 1, 3]
    assert isinstance(kernels[1, 1, 1], Biased)


def test_without_a_norm_behind_it_a_bank_stays_a_bank() -> None:
    graph = folded(clique())
    before = {param.slot for param in unfolded(clique()).params if param.slot.role == "w"}
    assert before == {param.slot for param in graph.params if param.slot.role == "w"}
    assert not any(isinstance(param, Biased) for param in graph.params)


def test_a_value_keeps_its_name_where_dropout_wrote_it() -> None:
    hints = [node.output.hint for node in folded(EVERY_KEY["dropout"])]
    assert [hint for hint in hints if hint.startswith("x1_")] == ["x1_1", "x1_2", "x1_1", "x1_2"]


# ---- the numbers ---------------------------------------------------------------------------


def test_folded_tensors_by_hand() -> None:
    spec = network({"layers": 1, "filters": 2, "stages": 1}, stem={"filters": 3, "norm": True})
    tensors = sample_tensors(graph_of(spec))
    found = fold_tensors(unfolded(spec), tensors)

    def norm(name: str) -> tuple[Array, Array]:
        factor = tensors[f"{name}.scale"] / np.sqrt(tensors[f"{name}.var"] + 1e-5)
        return factor, tensors[f"{name}.bias"] - tensors[f"{name}.mean"] * factor

    scale, bias = norm("stem.norm")
    kernel = tensors["stem.conv.weight"] * scale[:, None, None, None]
    assert found["stem.conv.weight"] == pytest.approx(kernel)
    assert found["stem.conv.bias"] == pytest.approx(bias)
    scale, bias = norm("readout1.norm")
    assert found["readout1.norm.scale"] == pytest.approx(scale)
    assert found["readout1.norm.bias"] == pytest.approx(bias)
    assert "readout1.norm.mean" not in found
    assert np.array_equal(found["block1.w0_1.weight"], tensors["block1.w0_1.weight"])


@given(networks())
@settings(max_examples=40)
def test_they_are_the_tensors_of_the_folded_graph(spec: NetworkSpec) -> None:
    graph = folded(spec)
    found = cliquegraph.fold(spec, sample_tensors(graph_of(spec)))
    assert {name: array.shape for name, array in found.items()} == {
        tensor_name(tensor): tensor.shape for tensor in graph.tensors
    }


def test_weights_must_be_those_of_the_network() -> None:
    spec = EVERY_KEY["abc"]
    tensors = sample_tensors(graph_of(spec))
    tensors["stem.conv.bias"] = np.zeros(6)  # one of the folded network
    scale = tensors.pop("readout1.norm.scale")
    tensors["readout2.norm.scale"] = scale[:1]
    with pytest.raises(WeightsError) as caught:
        cliquegraph.fold(spec, tensors)
    assert str(caught.value).splitlines()[1:3] == [
        "  1 missing: readout1.norm.scale",
        "  1 unexpected: stem.conv.bias",
    ]
    assert "  1 of another shape: readout2.norm.scale is (1,), must be" in str(caught.value)


def test_weights_of_a_step_that_is_not_taken_are_asked_for_all_the_same() -> None:
    spec = clique(feature=1)
    tensors = sample_tensors(graph_of(spec))
    del tensors["block1.x1.s2.norm.scale"]
    with pytest.raises(WeightsError, match=r"1 missing: block1\.x1\.s2\.norm\.scale"):
        cliquegraph.fold(spec, tensors)


def test_what_is_given_is_not_changed() -> None:
    spec = EVERY_KEY["abc"]
    tensors = sample_tensors(graph_of(spec))
    before = {name: array.copy() for name, array in tensors.items()}
    cliquegraph.fold(spec, tensors)
    assert all(np.array_equal(tensors[name], array) for name, array in before.items())


# ---- compiled ------------------------------------------------------------------------------

IN_FLAX = {"abc", "dropout", "post_activation"}  # between them, every op and member


@pytest.mark.parametrize("name", EVERY_KEY)
def test_backends_evaluate_it_to_what_the_network_does(name: str) -> None:
    backends = ["torch", "flax"] if name in IN_FLAX else ["torch"]
    found = cliquegraph.verify(EVERY_KEY[name], backends, inference=True)
    assert found.ok, (found.first_difference, found.max_error, found.max_error_float32)
    assert {"logits, evaluation", "block features, evaluation"} <= found.max_error.keys()
    assert not any("training" in what for what in found.max_error)


@given(networks())
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_pytorch_evaluates_random_ones(spec: NetworkSpec) -> None:
    found = cliquegraph.verify(spec, ["torch"], inference=True)
    assert found.ok, (found.first_difference, found.max_error, found.max_error_float32)


def test_the_level_does_not_matter() -> None:
    spec = EVERY_KEY["abc"]
    graphs = [Compilation(spec, level, inference=True).graph for level in (0, 1, 2)]
    assert graphs[0] == graphs[1] == graphs[2] == folded(spec)
