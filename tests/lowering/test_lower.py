"""The lowering: which operations an update becomes, and what its tensors are called."""

from __future__ import annotations

from typing import Any

import pytest

import cliquegraph
from cliquegraph import Graph, NetworkSpec
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.ir import ops
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.types import MapType, Section
from tests.networks import clique, graph_of, network, shipped


def mnemonics(graph: Graph, section: str) -> list[str]:
    return [node.op.mnemonic for node in graph if str(node.origin.section) == section]


def update(stage: int, layer: int, **keys: Any) -> list[str]:
    graph = graph_of(clique(**keys))
    return [
        node.op.mnemonic + (str(node.op.kernel) if isinstance(node.op, ops.Conv) else "")
        for node in graph
        if (node.origin.stage, node.origin.layer) == (stage, layer)
    ]


def norms(graph: Graph) -> list[str]:
    """The canonical name of each normalization's scale, in the order of execution."""
    return [
        tensor_name(node.operands[0].param.pieces[0].tensor)
        for node in graph
        if isinstance(node.op, ops.BatchNorm)
    ]


# ---- units ---------------------------------------------------------------------------------

PRE = ["concat", "batch_norm", "relu"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [*PRE, "conv3"]),
        ({"kernel": 5}, [*PRE, "conv5"]),
        ({"bottleneck": True}, [*PRE, "conv1", "batch_norm", "relu", "conv3"]),
        ({"bottleneck": True, "kernel": 5}, [*PRE, "conv1", "batch_norm", "relu", "conv5"]),
        ({"dropout": 0.2}, [*PRE, "conv3", "dropout"]),
        (
            {"dropout": 0.2, "bottleneck": True},
            [*PRE, "conv1", "dropout", "batch_norm", "relu", "conv3", "dropout"],
        ),
        ({"unit": "post_activation"}, ["concat", "conv3", "batch_norm", "relu"]),
        (
            {"unit": "post_activation", "bottleneck": True},
            ["concat", "conv1", "batch_norm", "relu", "conv3", "batch_norm", "relu"],
        ),
        (
            {"unit": "post_activation", "dropout": 0.2},
            ["concat", "conv3", "dropout", "batch_norm", "relu"],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("stage", [1, 2])
def test_the_operations_of_an_update(stage: int, keys: dict[str, Any], expected: list[str]) -> None:
    assert update(stage, 2, **keys) == expected


def test_the_operations_of_a_dense_layer() -> None:
    block = {"kind": "dense", "layers": 2, "filters": 3, "dropout": 0.2}
    plain = mnemonics(graph_of(network(block)), "block1")
    assert plain == [*PRE, "conv", "dropout"] * 2 + ["concat"]
    graph = graph_of(network({**block, "bottleneck": 4}))
    unit = [*PRE, "conv", "dropout", "batch_norm", "relu", "conv", "dropout"]
    assert mnemonics(graph, "block1") == unit * 2 + ["concat"]
    assert [n.op.filters for n in graph if isinstance(n.op, ops.Conv)] == [4, 12, 3, 12, 3]


# ---- the other sections --------------------------------------------------------------------


def test_the_operations_of_a_transition() -> None:
    blocks = [{"layers": 2, "filters": 3}] * 2
    plain = graph_of(network(*blocks))
    assert mnemonics(plain, "transition1") == ["batch_norm", "relu", "conv", "avg_pool"]
    full = network(*blocks, transition={"attention": True, "dropout": 0.2, "pool": "max"})
    gate = ["global_avg_pool", "linear", "relu", "linear", "sigmoid", "scale_channels"]
    assert mnemonics(graph_of(full), "transition1") == [
        *("batch_norm", "relu", "conv", "dropout"),  # dropout comes before the attention
        *gate,
        "max_pool",
    ]


def test_there_is_no_transition_after_the_last_block() -> None:
    graph = graph_of(network({"layers": 2, "filters": 3}, {"layers": 2, "filters": 3}))
    sections = dict.fromkeys(str(node.origin.section) for node in graph)
    assert list(sections) == [
        *("stem", "block1", "transition1", "block2"),
        *("readout1", "readout2", "classifier"),
    ]


def test_the_operations_of_stem_and_readout() -> None:
    assert mnemonics(graph_of(clique()), "stem") == ["input", "conv"]
    spec = network(
        {"layers": 2, "filters": 3},
        stem={"filters": 4, "norm": True, "pool": {"kind": "avg", "kernel": 2, "stride": 2}},
        readout={"compression": 0.5, "dropout": 0.2},
    )
    graph = graph_of(spec)
    assert mnemonics(graph, "stem") == ["input", "conv", "batch_norm", "relu", "avg_pool"]
    assert mnemonics(graph, "readout1") == [
        *("batch_norm", "relu", "conv", "dropout"),
        *("batch_norm", "relu", "global_avg_pool"),
    ]


def test_the_readout_of_the_last_block_alone() -> None:
    blocks = [{"layers": 2, "filters": 3}] * 2
    graph = graph_of(network(*blocks, readout={"blocks": "last"}))
    assert mnemonics(graph, "readout1") == []
    assert mnemonics(graph, "readout2") == ["batch_norm", "relu", "global_avg_pool"]
    # One vector is not concatenated; every block's feature is still what the network returns.
    assert mnemonics(graph, "classifier") == ["linear"]
    assert len(graph.features) == 2


def test_a_feature_concatenates_what_the_steps_say() -> None:
    graph = graph_of(clique(layers=3, feature=1, order=(2, 3, 1)))
    feature = graph.producers[graph.features[0]]
    hints = [value.hint for value in feature.inputs]
    assert hints == ["", "x1_1", "x2_1", "x3_1"]


def test_s3_has_the_maps_of_the_papers_table_3() -> None:
    graph = graph_of(shipped("cliquenet_s3"))
    types = [value.type for value in graph.features]
    assert types == [
        MapType(64 + 6 * 40, 56, 56),
        MapType(6 * 40 + 6 * 80, 28, 28),
        MapType(6 * 80 + 6 * 160, 14, 14),
        MapType(6 * 160 + 6 * 160, 7, 7),
    ]


# ---- tensors -------------------------------------------------------------------------------


def test_the_canonical_tensors_of_a_clique_network() -> None:
    spec = network(
        {"layers": 2, "filters": 3, "bottleneck": True},
        {"layers": 2, "filters": 3, "stages": 1},
        stem={"filters": 4, "norm": True},
        transition={"attention": True},
        readout={"compression": 0.5},
    )
    shapes = {tensor_name(tensor): tensor.shape for tensor in graph_of(spec).tensors}

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return dict.fromkeys((f"{name}.{f}" for f in ("scale", "bias", "mean", "var")), (channels,))

    assert shapes == {
        "stem.conv.weight": (4, 2, 3, 3),
        **norm("stem.norm", 4),
        **norm("block1.x1.s1.norm", 4),
        "block1.w0_1.weight": (3, 4, 1, 1),
        **norm("block1.x1.s1.mid_norm", 3),
        "block1.v1.weight": (3, 3, 3, 3),
        **norm("block1.x2.s1.norm", 7),
        "block1.w0_2.weight": (3, 4, 1, 1),
        "block1.w1_2.weight": (3, 3, 1, 1),
        **norm("block1.x2.s1.mid_norm", 3),
        "block1.v2.weight": (3, 3, 3, 3),
        **norm("block1.x1.s2.norm", 3),
        "block1.w2_1.weight": (3, 3, 1, 1),
        **norm("block1.x1.s2.mid_norm", 3),
        **norm("block1.x2.s2.norm", 3),
        **norm("block1.x2.s2.mid_norm", 3),
        **norm("transition1.norm", 6),
        "transition1.conv.weight": (6, 6, 1, 1),
        "transition1.attention.fc1.weight": (3, 6),
        "transition1.attention.fc1.bias": (3,),
        "transition1.attention.fc2.weight": (6, 3),
        "transition1.attention.fc2.bias": (6,),
        **norm("block2.x1.s1.norm", 6),
        "block2.w0_1.weight": (3, 6, 3, 3),
        **norm("block2.x2.s1.norm", 9),
        "block2.w0_2.weight": (3, 6, 3, 3),
        "block2.w1_2.weight": (3, 3, 3, 3),
        **norm("readout1.compress.norm", 10),
        "readout1.compress.conv.weight": (5, 10, 1, 1),
        **norm("readout1.norm", 5),
        **norm("readout2.compress.norm", 12),
        "readout2.compress.conv.weight": (6, 12, 1, 1),
        **norm("readout2.norm", 6),
        "classifier.weight": (5, 11),
        "classifier.bias": (5,),
    }


def test_the_canonical_tensors_of_a_dense_block() -> None:
    block = {"kind": "dense", "layers": 1, "filters": 3, "bottleneck": 4}
    names = [tensor_name(tensor) for tensor in graph_of(network(block)).tensors]
    assert [name for name in names if name.startswith("block1") and "norm" not in name] == [
        "block1.x1.conv.weight",
        "block1.x1.mid_conv.weight",
    ]
    assert {"block1.x1.norm.scale", "block1.x1.mid_norm.scale"} <= set(names)


def test_stages_share_kernels_and_not_normalizations() -> None:
    graph = graph_of(clique(stages=3, bottleneck=True))
    layer_2 = [node for node in graph if node.origin.layer == 2]
    edges = [node.operands for node in layer_2 if len(node.operands) == 2]
    w1_2 = {operands[0].param if i else operands[1].param for i, operands in enumerate(edges)}
    assert len(edges) == 3
    assert len(w1_2) == 1
    spatial = {n.operands[0].param for n in layer_2 if len(n.operands) == 1}
    assert len(spatial) == 1
    own = [name for name in norms(graph) if ".x2." in name]
    assert own == [f"block1.x2.s{s}.{n}.scale" for s in (1, 2, 3) for n in ("norm", "mid_norm")]


def test_stages_from_3_on_can_re_use_stage_2s_normalization() -> None:
    graph = graph_of(clique(stages=4, norm_per_stage=False))
    own = [name for name in norms(graph) if ".x2." in name]
    assert own == [f"block1.x2.s{s}.norm.scale" for s in (1, 2, 2, 2)]


# ---- places --------------------------------------------------------------------------------


def test_nodes_keep_their_line_of_the_spec() -> None:
    graph = graph_of(shipped("quickstart"))
    text = cliquegraph.load("specs/quickstart.yaml").locate("transition") or pytest.fail("no place")
    lines = {node.origin.section: node.origin.line for node in graph}
    section = next(section for section in lines if str(section) == "transition1")
    assert lines[section] == text.line
    assert "transition:" in text.text


def test_nodes_of_a_spec_built_in_python_have_none() -> None:
    assert {node.origin.line for node in graph_of(clique())} == {None}


def test_an_update_is_named_by_its_nodes() -> None:
    for node in graph_of(clique()):
        in_block = node.origin.section == Section(node.origin.section.part, 1)
        if node.output.hint.startswith("x") and in_block and node.origin.layer:
            assert node.output.hint == f"x{node.origin.layer}_{node.origin.stage}"


# ---- invalid shapes ------------------------------------------------------------------------

SPEC = """\
cliquegraph: 1
name: small
input: {channels: 3, height: 8, width: 8}
stem: {filters: 4}
blocks:
  - {layers: 2, filters: 1}
  - {layers: 2, filters: 1}
classifier: {classes: 5}
"""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["input.height=1"], "transition1: a 1×8 map is smaller than a window of 2×2"),
        (
            ["transition.compression=0.4"],
            "transition1: a compression of 0.4 leaves none of 2 channels",
        ),
        (["readout.compression=0.1"], "readout1: a compression of 0.1 leaves none of 6 channels"),
        (
            ["transition.attention=true", "transition.compression=0.5"],
            "transition1: half of 1 channel, for the attention, is none",
        ),
        (
            ["stem.pool={kind: avg, kernel: 9, stride: 1}"],
            "stem: a 8×8 map is smaller than a window of 9×9",
        ),
    ],
)
def test_sizes_that_can_not_be_had_are_reported_with_their_section(
    overrides: list[str], message: str
) -> None:
    spec = cliquegraph.loads(SPEC, "small.yaml", overrides)
    with pytest.raises(SpecError) as caught:
        graph_of(spec)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == message
    assert diagnostic.location is not None


def test_a_size_that_can_not_be_had_shows_its_line() -> None:
    spec = cliquegraph.loads(SPEC + "readout: {compression: 0.1}\n", "small.yaml")
    with pytest.raises(SpecError) as caught:
        graph_of(spec)
    assert "small.yaml:9:" in str(caught.value)
    assert "readout: {compression: 0.1}" in str(caught.value)


def test_lowering_leaves_the_spec_as_it_is() -> None:
    spec: NetworkSpec = clique()
    before = spec.model_dump()
    graph_of(spec)
    assert spec.model_dump() == before
