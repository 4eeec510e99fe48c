"""Lay out: where the features of a block lie, and in how many windows layers read them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

import cliquegraph
from cliquegraph import Graph, NetworkSpec, optimise, print_graph
from cliquegraph.ir.nodes import Value
from cliquegraph.ir.ops import Concat, Normalize
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.passes.slabs import LayOut
from tests.excerpts import golden
from tests.networks import EVERY_KEY, clique, graph_of, network, networks, shipped


def laid_out(spec: NetworkSpec) -> Graph:
    return optimise(graph_of(spec), 1)


def names(graph: Graph) -> list[str]:
    """What lies in each slab; X0 has no name of its own."""
    return [" ".join(value.hint or "x0" for value in slab.values) for slab in graph.slabs]


def reads(graph: Graph) -> list[tuple[Value, ...]]:
    """The features that each normalization reads, however many."""
    norms = [node for node in graph if isinstance(node.op, Normalize)]
    makers = [graph.producers[norm.inputs[0]] for norm in norms]
    return [
        maker.inputs if isinstance(maker.op, Concat) else norm.inputs[:1]
        for norm, maker in zip(norms, makers, strict=True)
    ]


def written(graph: Graph) -> list[Value]:
    return [value for node in graph for value in node.outputs]


def test_the_slabs_of_quickstart() -> None:
    lines = print_graph(laid_out(shipped("quickstart"))).splitlines()
    slabs = [line for line in lines if line.startswith("  slab of ")]
    assert "\n".join(slabs) + "\n" == golden("lay_out")
    assert lines.index(slabs[-1]) + 1 == lines.index("  return %logits, %feature, %feature.79")


def test_the_literal_level_has_none() -> None:
    assert not optimise(graph_of(shipped("quickstart")), 0).slabs
    assert all(any(isinstance(each, LayOut) for each in LEVELS[level]) for level in (1, 2))


def test_dense_blocks_and_first_stages_read_one_window() -> None:
    for spec in (shipped("densenet_k12_t36"), clique(layers=5, stages=1)):
        graph = laid_out(spec)
        owners = {value: slab for slab in graph.slabs for value in slab.values}
        assert graph.slabs
        for read in reads(graph):
            assert len(read) == 1 or len(owners[read[0]].windows(read)) == 1


@given(networks())
@settings(max_examples=30)
def test_what_is_read_together_is_in_one_slab_and_nothing_else_is(spec: NetworkSpec) -> None:
    graph = laid_out(spec)
    owners = {value: slab for slab in graph.slabs for value in slab.values}
    together = [read for read in reads(graph) if len(read) > 1]
    for read in together:
        assert len({owners[value] for value in read}) == 1
    assert owners.keys() == {value for read in together for value in read}
    assert sum(len(slab.values) for slab in graph.slabs) == len(owners)


@given(networks())
@settings(max_examples=30)
def test_no_layout_has_more_windows_than_the_order_of_writing(spec: NetworkSpec) -> None:
    graph = laid_out(spec)
    order = written(graph)
    for slab in graph.slabs:
        inside = [read for read in reads(graph) if read[0] in slab.columns]
        by_writing = type(slab)(tuple(sorted(slab.values, key=order.index)))
        counts = [sum(len(s.windows(read)) for read in inside) for s in (slab, by_writing)]
        assert counts[0] <= counts[1]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"layers": 3}, ["x0 x1_1 x2_1 x3_1 x1_2 x2_2 x3_2"]),
        ({"layers": 3, "update": "simultaneous"}, ["x0 x1_1 x2_1 x3_1 x1_2 x2_2 x3_2"]),
        ({"layers": 3, "order": "descending"}, ["x0 x3_1 x2_1 x1_1 x3_2 x2_2 x1_2"]),
        # Better than as written: X1 X3 X2, where kernels are in ascending order.
        ({"layers": 3, "stages": 1, "order": [1, 3, 2]}, ["x0 x1_1 x2_1 x3_1"]),
        (
            {"layers": 3, "order": [2, 1, 3], "last_stage_updates": 2},
            ["x0 x2_1 x1_1 x1_2 x2_2 x3_1"],
        ),
        ({"layers": 1, "stages": 1}, ["x0 x1_1"]),
    ],
)
def test_orders_stages_and_partial_stages(keys: dict[str, object], expected: list[str]) -> None:
    assert names(laid_out(clique(filters=3, **keys))) == expected


def test_readers_that_do_not_share_have_slabs_of_their_own() -> None:
    graph = laid_out(EVERY_KEY["over_time_per_stage"])
    assert names(graph)[:2] == ["x0 x1_1", "x1_2 x2_2"]
    source = cliquegraph.compile(EVERY_KEY["over_time_per_stage"], "torch", level=1)
    assert "slab1 = Slab(k0 + k)" in source
    assert "slab2 = Slab(2 * k)" in source


def test_what_is_normalized_by_itself_and_by_batch_statistics_is_left_alone() -> None:
    assert not laid_out(network({"kind": "residual", "layers": 2, "filters": 4})).slabs
    assert not laid_out(EVERY_KEY["recurrent"]).slabs


MOVED = clique(layers=3, filters=3, stages=1, order=[1, 3, 2])


def test_features_that_moved_are_put_at_explicit_columns() -> None:
    source = cliquegraph.compile(MOVED, "torch", level=1)
    assert "slab.put(self.update3_1([x0, x1_1], w=self.w3), k0 + 2 * k)" in source
    assert "slab.put(self.update2_1([x0, x1_1, x3_1], w=self.w2), k0 + k)" in source


@pytest.mark.parametrize("level", [1, 2])
def test_features_that_moved_compute_the_same(level: int) -> None:
    for spec in (MOVED, clique(layers=3, filters=3, order=[2, 1, 3])):
        verification = cliquegraph.verify(spec, backends=["torch"], level=level)
        assert verification.ok
        assert verification.max_error["gradients"] < 1e-12
