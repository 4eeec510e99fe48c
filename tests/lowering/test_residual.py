"""Residual units as operations: strides, shortcuts, names, and how their tensors start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cliquegraph import Graph
from cliquegraph.blocks.model import DropPath, Layer, Read, Relu, Skip
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.ir import ops
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.types import Init, MapType
from cliquegraph.weights.initial import initial_tensors
from tests.networks import graph_of, network


def lowered(**keys: Any) -> Graph:
    block = {"kind": "residual", "layers": 2, "filters": 4, **keys}
    return graph_of(network(block, readout={"norm": False}))


def unit(graph: Graph, layer: int) -> list[Node]:
    return [node for node in graph.nodes if node.origin.layer == layer]


def strides(nodes: list[Node]) -> list[tuple[int, int]]:
    return [(n.op.kernel, n.op.stride) for n in nodes if isinstance(n.op, ops.Conv)]


def test_a_unit_that_keeps_its_type_adds_what_it_reads() -> None:
    nodes = unit(lowered(), 1)
    mnemonics = [node.op.mnemonic for node in nodes]
    assert mnemonics == ["conv", "batch_norm", "relu", "conv", "batch_norm", "add", "relu"]
    assert nodes[5].inputs == (nodes[4].output, nodes[0].inputs[0])


def test_the_first_unit_has_the_stride_and_a_projection() -> None:
    graph = lowered(stride=2, filters=6)
    assert strides(unit(graph, 1)) == [(3, 2), (3, 1), (1, 2)]
    assert strides(unit(graph, 2)) == [(3, 1), (3, 1)]
    assert graph.features[0].type == MapType(6, 4, 4)


@pytest.mark.parametrize(
    ("where", "expected"), [("spatial", [1, 2, 1, 2]), ("first", [2, 1, 1, 2])]
)
def test_a_bottleneck_says_where_it_strides(where: str, expected: list[int]) -> None:
    graph = lowered(unit="bottleneck", stride=2, reduce_in=where)
    assert [stride for _, stride in strides(unit(graph, 1))] == expected
    assert [stride for _, stride in strides(unit(graph, 2))] == [1, 1, 1]
    assert graph.features[0].type == MapType(16, 4, 4)


def test_a_bottleneck_widens_by_a_projection_without_a_stride() -> None:
    assert strides(unit(lowered(unit="bottleneck"), 1)) == [(1, 1), (3, 1), (1, 1), (1, 1)]


def test_a_shortcut_without_kernels_pools_and_pads() -> None:
    nodes = unit(lowered(filters=6, stride=2, shortcut="pad"), 1)
    assert [n.op for n in nodes[5:7]] == [ops.AvgPool(2, 2), ops.PadChannels(6)]
    wider = unit(lowered(filters=6, shortcut="pad"), 1)
    assert [n.op for n in wider[5:6]] == [ops.PadChannels(6)]
    smaller = unit(lowered(filters=4, stride=2, shortcut="pad"), 1)
    assert [n.op.mnemonic for n in smaller[5:]] == ["avg_pool", "add", "relu"]


def test_names_of_tensors() -> None:
    names = {tensor_name(tensor) for tensor in lowered(filters=6, stride=2).tensors}
    of_block = {name for name in names if name.startswith("block1.") and "norm" not in name}
    assert of_block == {
        *(f"block1.v{j}_{p}.weight" for j in (1, 2) for p in (1, 2)),
        "block1.x1.shortcut.conv.weight",
    }
    assert {"block1.x1.norm1.scale", "block1.x2.norm2.var", "block1.x1.shortcut.norm.mean"} <= names


def test_kernels_start_by_fan_out_unless_the_spec_says_fan_in() -> None:
    def starts(**keys: Any) -> set[Init]:
        tensors = lowered(**keys).tensors
        return {t.init for t in tensors if len(t.shape) == 4 and t.slot.layer is not None}

    assert starts(filters=6, stride=2) == {Init.HE_FAN_OUT}
    assert starts(filters=6, stride=2, init="fan_in") == {Init.HE}


def test_fan_out_counts_the_outputs_of_a_kernel() -> None:
    graph = graph_of(network({"kind": "residual", "layers": 1, "filters": 64}))
    drawn = initial_tensors(graph)["block1.v1_1.weight"]
    assert drawn.shape == (64, 4, 3, 3)
    assert np.var(drawn) == pytest.approx(2 / (64 * 9), rel=0.1)


def test_a_unit_starts_as_its_shortcut_where_that_is_asked_for() -> None:
    tensors = initial_tensors(lowered(zero_init=True, unit="bottleneck"))
    assert not tensors["block1.x1.norm3.scale"].any()
    assert tensors["block1.x1.norm2.scale"].all()
    assert tensors["block1.x1.shortcut.norm.scale"].all()
    assert initial_tensors(lowered())["block1.x1.norm2.scale"].all()


def test_a_map_of_one_pixel_needs_no_shortcut() -> None:
    block = {"kind": "residual", "layers": 1, "filters": 4, "stride": 2}
    graph = graph_of(network(block, input={"channels": 2, "height": 1, "width": 1}))
    assert [n.op.mnemonic for n in unit(graph, 1)][-2:] == ["add", "relu"]
    assert len(strides(unit(graph, 1))) == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"filters": 3}, "4 maps can't be padded to 3"),
        ({"stride": 3}, "maps of 4x8x8 can't be pooled by 3: their sides are no multiples of it"),
    ],
)
def test_a_pad_that_is_impossible_is_refused(keys: dict[str, int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        lowered(shortcut="pad", **keys)


def test_a_branch_with_drop_path_has_its_mask_at_its_normalizations_and_before_the_sum() -> None:
    graph = lowered(drop_path={"last": 0.5}, stride=2)
    keep, *nodes = unit(graph, 1)
    assert keep.op == ops.Keep(0.25, per_image=False)
    assert keep.inputs == nodes[0].inputs
    readers = [node.op.mnemonic for node in graph.consumers[keep.output]]
    assert readers == ["batch_norm", "batch_norm", "drop_path"]
    names = [node.op.mnemonic for node in nodes]
    assert names[4:] == ["batch_norm", "drop_path", "conv", "batch_norm", "add", "relu"]
    assert len(nodes[7].inputs) == 1  # the projection is no part of the branch


def test_masks_of_images_move_no_statistics() -> None:
    graph = lowered(drop_path={"last": 0.5, "per": "image"})
    keep, *_ = unit(graph, 1)
    assert keep.op == ops.Keep(0.25, per_image=True)
    assert [node.op.mnemonic for node in graph.consumers[keep.output]] == ["drop_path"]


def test_rates_grow_through_all_blocks_with_drop_path() -> None:
    drop, plain = {"last": 0.5}, {"kind": "residual", "layers": 2, "filters": 4}
    blocks = [{**plain, "layers": 3, "drop_path": drop}, plain, {**plain, "drop_path": drop}]
    graph = graph_of(network(*blocks, readout={"norm": False}))
    rates = [node.op.rate for node in graph if isinstance(node.op, ops.Keep)]
    assert rates == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert {node.origin.section.index for node in graph if isinstance(node.op, ops.Keep)} == {1, 3}


def test_a_rate_of_0_leaves_nothing_out() -> None:
    assert lowered(drop_path={"last": 0.0}) == lowered()


def test_a_layer_has_one_branch_that_is_left_out() -> None:
    skip = Skip((Relu(),), drop=DropPath(0.5))
    with pytest.raises(ValueError, match="one branch with drop-path"):
        Layer((Read(0),), 4, ops=(skip, skip))


def test_without_a_transition_the_transit_is_the_next_x0() -> None:
    blocks = [{"kind": "residual", "layers": 1, "filters": 4}, {"layers": 2, "filters": 3}]
    graph = graph_of(network(*blocks, transition="none"))
    first = unit(graph, 1)[-1].output
    assert all(node.origin.section.part != "transition" for node in graph.nodes)
    assert graph.features[0] in {value for node in graph.nodes for value in node.inputs}
    assert first is not None
