"""Node-link JSON: an equal graph comes back, networkx reads it, and digests tell networks apart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

import cliquegraph
from cliquegraph import Graph, NetworkSpec, interpret, optimise, sample_tensors
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir import ops
from cliquegraph.ir.node_link import FORMAT, to_json
from cliquegraph.ir.serialize import from_json
from cliquegraph.ir.verify import verify_graph
from cliquegraph.passes.pipeline import LEVELS
from tests.function import images_for
from tests.networks import (
    EVERY_KEY,
    clique,
    graph_of,
    graphs_of,
    network,
    networks,
    shipped,
)


def through_text(graph: Graph) -> Graph:
    return from_json(json.loads(json.dumps(to_json(graph))))


@given(networks())
@settings(max_examples=40)
def test_an_equal_graph_comes_back(spec: NetworkSpec) -> None:
    for graph in graphs_of(spec).values():
        loaded = through_text(graph)
        assert loaded == graph
        assert loaded.digest() == graph.digest()
        verify_graph(loaded)


@pytest.mark.parametrize("name", EVERY_KEY)
def test_what_comes_back_computes_the_same(name: str) -> None:
    for graph in graphs_of(EVERY_KEY[name]).values():
        loaded = through_text(graph)
        images, tensors = images_for(graph), sample_tensors(graph)
        assert np.array_equal(
            interpret(loaded, tensors, images).logits, interpret(graph, tensors, images).logits
        )


def test_sharing_comes_back_as_the_same_object() -> None:
    graph = through_text(graph_of(clique()))
    x2_1, x2_2 = (
        next(node for node in graph if node.output.hint == hint) for hint in ("x2_1", "x2_2")
    )
    assert x2_1.operands[1].param is x2_2.operands[0].param


@pytest.mark.parametrize("which", ["lowered", "-O0", "-O2", "folded"])
def test_networkx_reads_it(which: str) -> None:
    graph = graphs_of(EVERY_KEY["abc"])[which]
    data = json.loads(json.dumps(to_json(graph)))
    read = nx.node_link_graph(data, edges="edges")
    assert read.is_directed()
    assert read.is_multigraph()
    assert nx.is_directed_acyclic_graph(read)
    assert [read.nodes[i]["op"] for i in read] == [node.op.mnemonic for node in graph]
    expected = graph.to_networkx()
    assert sorted(read.edges(data="input")) == sorted(expected.edges(data="input"))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["graph"].update(format="cliquegraph-ir-0"),
        lambda data: data.pop("edges"),
        lambda data: data["graph"].pop("params"),
        lambda data: data["nodes"][1].update(op="unheard"),
        lambda data: data["nodes"][1]["attributes"].update(unheard=1),
        lambda data: data["nodes"][1]["operands"][0].update(param=10_000),
        lambda data: data["graph"]["tensors"][0].update(init="unheard"),
        lambda data: data["graph"].update(logits=[10_000, 0]),
    ],
)
def test_damaged_data_is_the_users_error(change: Any) -> None:
    data = json.loads(json.dumps(to_json(graph_of(clique()))))
    change(data)
    with pytest.raises(UsageError, match=f"not an op graph of format {FORMAT}"):
        from_json(data)


# ---- digests and equality ------------------------------------------------------------------


def digest(spec: NetworkSpec) -> str:
    return graph_of(spec).digest()


def test_a_digest_does_not_depend_on_the_name_or_the_place_in_the_file() -> None:
    spec = shipped("quickstart")
    moved = cliquegraph.loads(
        "# another line\n\n" + (spec.model_dump_json(exclude={"training", "expect"}))
    )
    assert graph_of(moved).nodes[0].origin.line != graph_of(spec).nodes[0].origin.line
    assert digest(moved) == digest(spec)
    assert digest(spec.model_copy(update={"name": "other"})) == digest(spec)
    assert digest(spec.model_copy(update={"training": None})) == digest(spec)


def test_two_spellings_of_one_order_have_one_digest() -> None:
    assert digest(clique(order="descending")) == digest(clique(order=(3, 2, 1)))


BASE: dict[str, Any] = {"layers": 3, "filters": 4, "stages": 3, "bottleneck": True}
OTHER_SECTIONS: list[dict[str, Any]] = [
    {"input": {"channels": 1, "height": 8, "width": 8}},
    {"input": {"channels": 2, "height": 10, "width": 8}},
    {"stem": {"filters": 5}},
    {"stem": {"filters": 4, "kernel": 5}},
    {"stem": {"filters": 4, "stride": 2}},
    {"stem": {"filters": 4, "norm": True}},
    {"stem": {"filters": 4, "init": "fan_out"}},
    {"stem": {"filters": 4, "pool": {"kind": "max", "kernel": 3, "stride": 1}}},
    {"transition": "none"},
    {"transition": {"attention": True}},
    {"transition": {"compression": 0.5}},
    {"transition": {"pool": "max"}},
    {"transition": {"dropout": 0.1}},
    {"readout": {"blocks": "last"}},
    {"readout": {"norm": False}},
    {"readout": {"blocks": "last", "stages": "all"}},
    {"readout": {"blocks": "last", "stages": "all", "norms": "shared"}},
    {"readout": {"compression": 0.5}},
    {"readout": {"compression": 0.5, "dropout": 0.1}},
    {"readout": {"pool": "max"}},
    {"readout": {"ops": ["relu"]}},
    {"stem": "none"},
    {"stem": {"ops": [{"conv": 3, "filters": 4}, "relu"]}},
    {"transition": {"ops": [{"dropout": 0.1}]}},
    {"classifier": {"classes": 6}},
]
RESIDUAL: dict[str, Any] = {"kind": "residual", "layers": 2, "filters": 4, "unit": "bottleneck"}
OTHER_UNITS: list[dict[str, Any]] = [
    {"layers": 3},
    {"filters": 5},
    {"unit": "basic"},
    {"stride": 2},
    {"stride": 2, "reduce_in": "first"},
    {"shortcut": "pad"},
    {"zero_init": True},
    {"init": "fan_in"},
    {"drop_path": {"last": 0.5}},
    {"drop_path": {"last": 0.5, "per": "image"}},
    {"drop_path": {"last": 0.5, "scale": "training"}},
]
OTHER_BLOCKS: list[dict[str, Any]] = [
    {"layers": 4},
    {"filters": 5},
    {"kernel": 5},
    {"bottleneck": False},
    {"dropout": 0.1},
    {"unit": "post_activation"},
    {"stages": 2},
    {"update": "simultaneous"},
    {"order": (2, 1, 3)},
    {"last_stage_updates": 2},
    {"feature": 1},
    {"transit": 1},
    {"norm_per_stage": False},
    {"edges": "ring", "direction": "forward", "input": {"stages": "all"}},
    {"edges": {"nearest": 1}, "self": True},
    {"input": {"to": "first"}},
    {"input": {"stages": "all"}},
    {"kind": "dense"},
]
KERNEL: list[Any] = [{"conv": 3}]
GRAPH: dict[str, Any] = {
    "kind": "graph",
    "layers": 3,
    "filters": 4,
    "edges": [[1, 2], [1, 3], [3, 2]],
    "edge": KERNEL,
    "layer": ["norm", "relu"],
    "stages": 2,
    "self": KERNEL,
}
OTHER_GRAPHS: list[dict[str, Any]] = [
    {"layers": [{}, {}, {"combine": "mean"}]},
    {"filters": 5},
    {"edges": [[1, 2], [1, 3], [3, 2, [{"conv": 1}]]]},
    {"edges": "complete"},
    {"edges": "complete", "direction": "forward"},
    {"self": []},
    {"input": {"stages": "all"}},
    {"input": {"edge": [{"conv": 1}]}},
    {"edge": [{"conv": 3}, "norm"]},
    {"feedback": [{"conv": 5}]},
    {"combine": "mean"},
    {"combine": "mean", "drop_path": {"local": 0.1}},
    {"layer": ["bias"]},
    {"stages": 3},
    {"update": "simultaneous"},
    {"order": [3, 1, 2]},
    {"last_stage_updates": 2},
    {"initial": "zero"},
    {"stride": 2, "input": {"edge": [{"conv": 3, "reduce": True}]}, "layer": [{"max_pool": 1}]},
    {"norms": "shared"},
    {"output": {"layers": [2, 3]}},
    {"feature": {"input": True}},
]
FRACTAL: dict[str, Any] = {"kind": "fractal", "columns": 2, "filters": 4}
POOL = {"kind": "max", "kernel": 2, "stride": 2}
OTHER_FRACTALS: list[dict[str, Any]] = [
    {"columns": 3},
    {"filters": 5},
    {"dropout": 0.1},
    {"pool": POOL},
    {"pool": {**POOL, "before_join": True}},
    {"drop_path": {"local": 0.1}},
    {"drop_path": {"local": 0.1, "global": 0.5}},
]
RECURRENT: dict[str, Any] = {"kind": "recurrent", "filters": 4, "steps": 2, "layer": ["norm"]}
OTHER_RECURRENT: list[dict[str, Any]] = [
    {"filters": 5},
    {"steps": 3},
    {"edge": [{"conv": 1}]},
    {"self": []},
    {"combine": "mean"},
    {"layer": ["bias"]},
    {"stride": 2, "edge": [{"conv": 3, "reduce": True}]},
    {"norms": "shared"},
]


def test_a_digest_depends_on_every_key_that_changes_the_function() -> None:
    dense = {"kind": "dense", "layers": 3, "filters": 4}
    specs = [network(BASE, BASE)]
    specs += [network(BASE, BASE, **change) for change in OTHER_SECTIONS]
    specs += [network({**BASE, **change}, BASE) for change in OTHER_BLOCKS if "kind" not in change]
    specs += [network({**dense, **change}, BASE) for change in ({}, {"bottleneck": 2})]
    specs += [network({**RESIDUAL, **change}, BASE) for change in ({}, *OTHER_UNITS)]
    specs += [network({**GRAPH, **change}, BASE) for change in ({}, *OTHER_GRAPHS)]
    specs += [network({**FRACTAL, **change}, BASE) for change in ({}, *OTHER_FRACTALS)]
    specs += [network({**RECURRENT, **change}, BASE) for change in ({}, *OTHER_RECURRENT)]
    specs += [network(BASE), network(BASE, BASE, BASE)]
    digests = [digest(spec) for spec in specs]
    assert len(set(digests)) == len(digests)


def test_a_digest_depends_on_wiring_and_attributes() -> None:
    graph = graph_of(clique())
    norm = next(node for node in graph if isinstance(node.op, ops.BatchNorm))
    concat = next(node for node in graph if len(node.inputs) == 3)
    one = replace(norm, op=ops.BatchNorm(eps=1e-3))
    two = replace(concat, inputs=(concat.inputs[0], concat.inputs[2], concat.inputs[1]))
    three = replace(norm, recompute=True)
    for old, new in ((norm, one), (concat, two), (norm, three)):
        nodes = tuple(new if node is old else node for node in graph)
        assert replace(graph, nodes=nodes).digest() != graph.digest()


def test_a_digest_depends_on_what_is_not_executed_and_what_is_stored_once() -> None:
    graph = optimise(graph_of(clique(feature=1)), 1)
    executed = replace(graph, nodes=(*graph.nodes, *graph.idle), idle=())
    moments = next(node for node in graph if isinstance(node.op, ops.Moments))
    alone = tuple(replace(o.param, mirrors=()).whole() for o in moments.operands)
    nodes = tuple(replace(n, operands=alone) if n is moments else n for n in graph)
    digests = {each.digest() for each in (graph, executed, replace(graph, nodes=nodes))}
    assert len(digests) == 3


def test_graphs_are_equal_by_what_they_are_and_not_by_the_object() -> None:
    assert graph_of(clique()) == graph_of(clique())
    assert graph_of(clique()) != graph_of(clique(filters=2))
    assert len({each.digest() for each in graphs_of(clique()).values()}) == len(LEVELS) + 2
    assert graph_of(clique()) != "graph"


def test_the_changes_above_are_of_every_key_of_the_language() -> None:
    # A new key without a change here could be missing from the digest unnoticed.
    from cliquegraph.blocks.clique import CliqueBlock
    from cliquegraph.blocks.fractal import FractalBlock
    from cliquegraph.blocks.graph import GraphBlock
    from cliquegraph.blocks.recurrent import RecurrentBlock
    from cliquegraph.blocks.residual import ResidualBlock
    from cliquegraph.spec.boundaries import Readout
    from cliquegraph.spec.network import NetworkSpec
    from cliquegraph.spec.schema import Pool, Stem, Transition

    sections = set(NetworkSpec.model_fields) - {
        "cliquegraph",
        "name",
        "class_name",
        "blocks",
        "training",
        "expect",
    }
    assert {key for change in OTHER_SECTIONS for key in change} == sections
    keys = {
        "stem": {*Stem.model_fields, "ops"},
        "transition": {*Transition.model_fields, "ops"},
        "readout": set(Readout.model_fields),
    }
    for section, fields in keys.items():
        said = [change[section] for change in OTHER_SECTIONS if section in change]
        changed = {key for each in said if isinstance(each, dict) for key in each}
        assert changed == fields
    changes = {
        CliqueBlock: OTHER_BLOCKS,
        ResidualBlock: OTHER_UNITS,
        GraphBlock: OTHER_GRAPHS,
        FractalBlock: OTHER_FRACTALS,
        RecurrentBlock: OTHER_RECURRENT,
    }
    for kind, others in changes.items():
        assert {"kind", *(key for change in others for key in change)} == set(kind.model_fields)
    pools = [
        change["stem"]["pool"] for change in OTHER_SECTIONS if "pool" in change.get("stem", {})
    ]
    assert {key for pool in pools for key in pool} == set(Pool.model_fields)


def test_slabs_come_back_with_their_columns() -> None:
    graph = optimise(graph_of(shipped("quickstart")), 1)
    back = through_text(graph)
    assert back == graph
    assert [list(slab.columns.values()) for slab in back.slabs] == [
        list(slab.columns.values()) for slab in graph.slabs
    ]
    written = {value for node in back.nodes for value in node.outputs}
    assert len(back.slabs) == 2
    assert all(value in written for slab in back.slabs for value in slab.values)
    one, other = back.slabs
    turned = replace(back, slabs=(replace(one, values=one.values[::-1]), other))
    assert turned != graph
    assert "slabs" not in json.dumps(to_json(optimise(graph_of(shipped("quickstart")), 0)))
