"""Shared moments: one mean and variance of a feature, whoever normalizes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

import cliquegraph
from cliquegraph import Graph, NetworkSpec, interpret, optimise, sample_tensors
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir import ops
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.storage import from_storage, to_storage
from cliquegraph.ir.types import Piece
from cliquegraph.ir.units import units_of
from cliquegraph.passes.moments import ShareMoments
from cliquegraph.passes.pack import Pack
from cliquegraph.passes.pipeline import run_passes
from tests.excerpts import before_and_after, golden
from tests.function import assert_same_function, images_for, with_reader, without_relu
from tests.networks import EVERY_KEY, clique, graph_of, network, networks, shipped


def packed(spec: NetworkSpec) -> Graph:
    return Pack().apply(graph_of(spec))


def shared(spec: NetworkSpec) -> Graph:
    return run_passes(packed(spec), [ShareMoments()])


def of(graph: Graph, *kinds: type[ops.Op]) -> list[Node]:
    return [node for node in graph if isinstance(node.op, kinds)]


def maker(graph: Graph, node: Node) -> Node:
    return graph.producers[node.inputs[0]]


def test_what_it_does_to_a_clique() -> None:
    graph = packed(shipped("cliquenet_k36_t12"))
    steps = ("block1, stage 1 layer 2", "block1, stage 2 layer 1")
    shown = before_and_after(graph, ShareMoments(), "stem", *steps, "block1, line", "transition1")
    assert shown == golden("share_moments")


# ---- the function --------------------------------------------------------------------------


@given(networks())
@settings(max_examples=40)
def test_the_function_stays_the_same(spec: NetworkSpec) -> None:
    assert_same_function(graph_of(spec), shared(spec))


# ---- what becomes of the graph -------------------------------------------------------------


@given(networks())
def test_every_normalization_stays_one_and_every_feature_has_moments_once(
    spec: NetworkSpec,
) -> None:
    before, after = packed(spec), shared(spec)
    assert len(of(before, ops.BatchNorm)) == len(of(after, ops.BatchNorm, ops.Normalize))
    features = Counter(node.inputs[0] for node in of(after, ops.Moments))
    assert set(features.values()) <= {1}
    for node in of(after, ops.Moments):
        assert maker(after, node).origin == node.origin  # behind the node that wrote it
        readers = after.consumers[node.output]
        assert readers
        assert all(isinstance(reader.op, ops.Normalize) for reader in readers)


@given(networks())
def test_maps_are_normalized_by_the_moments_of_their_own_channels(spec: NetworkSpec) -> None:
    graph = shared(spec)
    for node in of(graph, ops.Normalize):
        concat = maker(graph, node)
        maps = concat.inputs if isinstance(concat.op, ops.Concat) else node.inputs[:1]
        moments = [graph.producers[value] for value in node.inputs[1:]]
        assert tuple(each.inputs[0] for each in moments) == maps


@given(networks())
def test_a_concatenation_that_is_normalized_has_one_reader(spec: NetworkSpec) -> None:
    graph = shared(spec)
    for node in of(graph, ops.Normalize):
        concat = maker(graph, node)
        if isinstance(concat.op, ops.Concat):
            assert graph.consumers[concat.output] == (node,)
            assert concat.origin == node.origin
            assert concat.output not in graph.outputs


@given(networks())
def test_only_what_several_versions_share_keeps_its_own_moments(spec: NetworkSpec) -> None:
    graph = shared(spec)
    norms = [node for node in of(graph, ops.BatchNorm) if len(maker(graph, node).inputs) > 1]
    concatenated = [node for node in norms if isinstance(maker(graph, node).op, ops.Concat)]
    if all(getattr(block, "norm_per_stage", True) for block in spec.blocks):
        assert not concatenated
    uses = Counter(o.param for node in graph for o in node.operands)
    for node in of(graph, ops.Normalize, ops.Moments):
        assert {uses[operand.param] for operand in node.operands} == {1}


def test_a_normalization_of_several_versions_and_what_its_steps_write_stay() -> None:
    graph = shared(clique(stages=4, norm_per_stage=False))
    steps = {
        kind: {(n.origin.stage, n.origin.layer) for n in of(graph, kind)}
        for kind in (ops.Normalize, ops.BatchNorm, ops.Moments)
    }
    layers = (1, 2, 3)
    # Stage 1 reads what it writes itself. From stage 2 on members are shared, and have no room.
    assert steps[ops.Normalize] == {(1, j) for j in layers}
    assert steps[ops.BatchNorm] == {(s, j) for s in (2, 3, 4) for j in layers} | {(None, None)}
    assert steps[ops.Moments] == {(None, None), (1, 1), (1, 2)}


def test_a_lone_normalization_stays() -> None:
    # The stem's and the bottleneck's have one reader of one value: nothing to share.
    graph = shared(EVERY_KEY["abc"])
    lone = {node.operands[0].param.slot.role for node in of(graph, ops.BatchNorm)}
    assert lone == {"norm", "mid_norm"}
    (stem,) = (node for node in of(graph, ops.BatchNorm) if node.origin.section.part == "stem")
    assert isinstance(maker(graph, stem).op, ops.Conv)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("place", ["block1, stage 2 layer 1", "readout1"])
@pytest.mark.parametrize("changed", [without_relu, with_reader])
def test_a_normalization_without_a_relu_of_its_own_stays(
    changed: Callable[[Graph, Value], Graph], place: str, level: int
) -> None:
    # No network of the language has one, and no backend a call for it.
    lowered = graph_of(clique())
    (norm,) = (n for n in of(lowered, ops.BatchNorm) if str(n.origin) == place)
    graph = changed(lowered, norm.output)
    after = optimise(graph, level)
    assert_same_function(graph, after)
    kept = [node.operands[0].param.slot for node in of(after, ops.BatchNorm)]
    assert kept == [norm.operands[0].param.slot]
    assert not any(node.recompute for node in of(after, ops.BatchNorm))
    assert {unit.norm for unit in units_of(after).values()} == {*of(after, ops.Normalize)}


def test_post_activation_has_nothing_to_share_in_its_blocks() -> None:
    block = {"layers": 3, "filters": 3, "unit": "post_activation"}
    graph = shared(network(block, block))
    assert {str(node.origin.section) for node in of(graph, ops.Normalize)} == {
        "transition1",
        "readout1",
        "readout2",
    }


def test_the_networks_features_stay_concatenations() -> None:
    for spec in EVERY_KEY.values():
        before = packed(spec)
        after = ShareMoments().apply(before)
        assert after.features == before.features
        assert [after.producers[value].op for value in after.features] == [
            before.producers[value].op for value in before.features
        ]


# ---- running statistics that are stored once -----------------------------------------------


def places(pieces: tuple[Piece, ...]) -> str:
    return " + ".join(f"{tensor_name(p.tensor)}[{p.start}:{p.stop}]" for p in pieces)


def test_every_reader_is_given_the_statistics_of_its_features() -> None:
    graph = shared(clique(layers=2, filters=3))
    moments = {n.output.hint: n.operands[0].param for n in of(graph, ops.Moments)}
    held = {name: [*map(places, param.holdings)] for name, param in moments.items()}
    assert held == {
        # X0 of 4 channels: both layers in stage 1, and the readout
        "m": [
            "block1.x1.s1.norm.mean[0:4]",
            "block1.x2.s1.norm.mean[0:4]",
            "readout1.norm.mean[0:4]",
        ],
        "m1_1": ["block1.x2.s1.norm.mean[4:7]"],
        # X2@1 has one reader, and nothing beside it there.
        "m1_2": ["block1.x2.s2.norm.mean[0:3]", "readout1.norm.mean[4:7]"],
        "m2_2": ["readout1.norm.mean[7:10]"],
    }


def test_statistics_that_disagree_are_refused_with_the_way_out() -> None:
    lowered, graph = graph_of(clique(layers=2)), shared(clique(layers=2))
    tensors = sample_tensors(graph)
    tensors["readout1.norm.mean"][1] += 0.5
    with pytest.raises(WeightsError) as caught:
        to_storage(graph, tensors)
    assert str(caught.value) == (
        "block1.x1.s1.norm.mean[0:4] and readout1.norm.mean[0:4] are the running statistics of "
        "one feature, but differ by 5.0e-01; -O0 stores each of its own"
    )
    to_storage(lowered, tensors)  # the way out


def test_statistics_may_differ_by_rounding_and_the_first_readers_count() -> None:
    graph = shared(clique(layers=2))
    tensors = sample_tensors(graph)
    single = tensors["readout1.norm.var"].astype(np.float32).astype(np.float64)
    found = from_storage(to_storage(graph, {**tensors, "readout1.norm.var": single}))
    # Of X0 and X1@2 there are readers before; of X2@2 the readout is the first.
    expected = [*tensors["readout1.norm.var"][:7], *single[7:]]
    assert found["readout1.norm.var"].tolist() == expected


def test_statistics_of_literal_training_agree() -> None:
    # A network that was trained at -O0 can be moved: all readers have seen the same batches.
    spec = EVERY_KEY["schedule"]
    lowered, graph = graph_of(spec), shared(spec)
    tensors = sample_tensors(graph)
    for _ in range(3):
        tensors |= interpret(lowered, tensors, images_for(lowered), training=True).running
    back = from_storage(to_storage(graph, tensors))
    for name, array in tensors.items():
        assert back[name] == pytest.approx(array, rel=1e-12)


def test_samples_agree_where_the_graph_shares() -> None:
    spec = EVERY_KEY["defaults"]
    to_storage(shared(spec), cliquegraph.sample_tensors(shared(spec)))
    with pytest.raises(WeightsError, match="-O0 stores each of its own"):
        to_storage(shared(spec), cliquegraph.sample_tensors(graph_of(spec)))


def test_a_concatenation_that_stays_is_normalized_as_it_is() -> None:
    # Block 1's feature is block 2's X0, so that it is in memory whoever else reads it.
    dense = {"kind": "dense", "layers": 1, "filters": 1}
    spec = network(dense, dense, transition="none")
    graph = shared(spec)
    (readout,) = (n for n in graph.nodes if str(n.origin.section) == "readout1" and n.operands)
    assert isinstance(readout.op, ops.BatchNorm)
    assert readout.inputs == (graph.features[0],)
    assert cliquegraph.verify(spec, ["torch"], level=1).ok
