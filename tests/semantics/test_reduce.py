"""Smaller networks of the same structure, for ops of edges and layers; and boundaries as ops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cliquegraph import Graph, NetworkSpec, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir import ops
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.semantics.declaration import evaluate
from cliquegraph.semantics.exact import Candidate, compare
from cliquegraph.semantics.reduce import compare_reduced, least_size, reductions
from cliquegraph.semantics.structure import same_structure
from tests.function import images_for
from tests.networks import graph_of, network
from tests.semantics.declared import assert_close

LOCAL = {"local_response": {"size": 21, "alpha": 0.001, "beta": 0.75}}
DOWN = [{"conv": 3, "stride": 2, "bias": True}, {"group_norm": 8}, "relu"]
BLOCKS: dict[str, dict[str, Any]] = {
    "from zeros": {
        "layers": [{"filters": 32}, {"filters": 64}, {"filters": 64}],
        "edges": "chain",
        "self": [],
        "input": {"to": "first", "stages": "all", "edge": DOWN},
        "edge": DOWN,
        "layer": [{"conv": 3}, {"group_norm": 16}, "relu"],
        "stages": 4,
        "update": "simultaneous",
        "initial": "zero",
        "norms": "shared",
        "output": {"layers": "last"},
    },
    "gates": {
        "layers": 6,
        "filters": 32,
        "edges": {"small_world": {"neighbours": 4, "rewire": 0.75, "seed": 1}},
        "direction": "forward",
        "input": {"to": "sources"},
        "stride": 2,
        "edge": ["gate"],
        "layer": [
            "relu",
            {"conv": 3, "depthwise": True, "reduce": True},
            {"conv": 1},
            "norm",
        ],
        "output": {"layers": "sinks", "combine": "mean"},
    },
    "upsampled": {
        "layers": [
            {"filters": 16, "layer": ["norm", "relu"]},
            {"filters": 32, "edge": [{"conv": 3, "stride": 2}], "layer": ["bias", "relu"]},
        ],
        "edges": [[1, 2], [2, 1]],
        "edge": [{"conv": 3}],
        "feedback": [{"conv": 1}, {"upsample": 2}],
        "input": {"to": "first", "stages": "all"},
        "stages": 3,
        "output": {"layers": "last"},
    },
    "relu": {"layers": 1, "edges": "none", "layer": ["relu"]},
    "recurrent": {
        "layers": 1,
        "filters": 32,
        "edges": "none",
        "self": [{"conv": 3}],
        "input": {"to": "all", "stages": "all"},
        "edge": [{"conv": 3}],
        "stages": 4,
        "layer": ["bias", "relu", LOCAL],
        "output": {"layers": "last"},
    },
}


def spec_of(*names: str, **changes: Any) -> NetworkSpec:
    sections: dict[str, Any] = {
        "stem": {"filters": 32},
        "transition": "none",
        "readout": {"blocks": "last", "norm": False},
        "input": {"channels": 3, "height": 32, "width": 32},
    }
    blocks = ({"kind": "graph", **BLOCKS[name]} for name in names)
    return network(*blocks, **{**sections, **changes})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_narrower_network_is_compared_in_place_of_a_wide_one(name: str, level: int) -> None:
    spec = spec_of(name)
    graph = Compilation(spec, level).graph
    reduced, *_ = reductions(spec, graph)
    small = Compilation(reduced, level).graph
    assert same_structure(graph, small)
    assert max(max(tensor.shape) for tensor in small.tensors) < 20
    assert compare(reduced, Candidate(small)).bound < 1e-9
    assert compare(spec, Candidate(graph)).bound < 1e-9


def test_sizes_are_those_whose_upsampled_maps_meet() -> None:
    assert least_size(graph_of(spec_of("upsampled"))) == (4, 4)
    assert least_size(graph_of(spec_of("from zeros"))) == (9, 9)


def swap_groups(graph: Graph) -> Graph:
    """Every group norm has the number of groups of another."""
    groups = {node.op.groups for node in graph.nodes if isinstance(node.op, ops.GroupNorm)}
    other = dict(zip(sorted(groups), sorted(groups, reverse=True), strict=True))

    def swap(op: ops.Op) -> ops.Op:
        return replace(op, groups=other[op.groups]) if isinstance(op, ops.GroupNorm) else op

    nodes = tuple(replace(node, op=swap(node.op)) for node in graph.nodes)
    return replace(graph, nodes=nodes)


def test_wrong_groups_are_found_in_a_narrower_network() -> None:
    def build(network: NetworkSpec) -> Candidate:
        return Candidate(swap_groups(graph_of(network)))

    spec = spec_of("from zeros")
    with pytest.raises(VerificationError, match=r"block1, stage 1 layer 1: X1@1, of {X0}"):
        compare_reduced(spec, build(spec), build)


# ---- boundaries ------------------------------------------------------------------------------

BOUNDARIES: dict[str, Any] = {
    "stem": {
        "ops": [
            {"conv": 5, "filters": 32, "bias": True},
            "relu",
            {"group_norm": 4},
            {"max_pool": 3, "stride": 2, "pad": 1},
        ]
    },
    "transition": [
        {"ops": ["norm", {"conv": 1, "filters": 32}, "bias", {"avg_pool": 2}]},
        "none",
    ],
    "readout": {"blocks": "last", "ops": ["gate", LOCAL, {"dropout": 0.5}], "pool": "max"},
}


@pytest.mark.parametrize("level", LEVELS)
def test_boundaries_of_ops_are_compared(level: int) -> None:
    spec = spec_of("recurrent", "recurrent", "recurrent", **BOUNDARIES)
    compilation = Compilation(spec, level)
    reduced, *_ = reductions(spec, compilation.graph)
    assert same_structure(compilation.graph, Compilation(reduced, level).graph)
    assert compilation.evidence.bound < 1e-9


def test_boundaries_of_ops_are_what_torch_makes_of_them() -> None:
    spec = spec_of("relu", "relu", "relu", **BOUNDARIES)
    graph = graph_of(spec)
    tensors, images = sample_tensors(graph), images_for(graph)
    at = {name: torch.from_numpy(array) for name, array in tensors.items()}
    x = torch.from_numpy(images)
    x = F.relu(F.conv2d(x, at["stem.conv1.weight"], at["stem.conv1.bias"], padding=2))
    x = F.group_norm(x, 4, at["stem.norm1.scale"], at["stem.norm1.bias"])
    x = F.relu(F.max_pool2d(x, 3, 2, 1))
    norm = [at[f"transition1.norm1.{field}"] for field in ("mean", "var", "scale", "bias")]
    x = F.conv2d(F.batch_norm(x, *norm), at["transition1.conv1.weight"])
    x = F.relu(F.avg_pool2d(x + at["transition1.bias1"].reshape(-1, 1, 1), 2))
    x = F.local_response_norm(x * at["readout3.gate1.weight"].sigmoid(), 21, 0.001, 0.75)
    logits = F.linear(x.amax((2, 3)), at["classifier.weight"], at["classifier.bias"])
    meaning = evaluate(spec, tensors, images)
    assert_close(meaning.logits, logits.numpy())
    assert meaning.tensors == tensors.keys()
    assert [str(place) for place in meaning.values if place.layer is None] == [
        "stem",
        "block1",
        "transition1",
        "block2",
        "block3",
        "readout3",
        "classifier",
    ]
