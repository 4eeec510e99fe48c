"""Blocks of any layers, edges, ops and schedule; the other kinds as short names of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.analysis.cost import network_cost
from cliquegraph.blocks.model import Block, Conv, Gate, JoinDrop, MaxPool, Norm, Output, Read, Relu
from cliquegraph.blocks.registry import blocks_of
from cliquegraph.spec.dump import dumps
from tests.networks import graph_of, network, shipped

FOLDER = Path(__file__).parents[1] / "fixtures" / "networks"
NETWORKS = sorted(FOLDER.glob("*.yaml"))


def read(name: str, *overrides: str) -> NetworkSpec:
    return cliquegraph.load(FOLDER / f"{name}.yaml", overrides)


def declared(**keys: Any) -> Block:
    """The only block of a network."""
    (block,) = blocks_of(network({"kind": "graph", **keys}).blocks)
    return block


@pytest.mark.parametrize("file", NETWORKS, ids=lambda file: file.stem)
def test_each_network_is_read_and_has_its_figures(file: Path) -> None:
    spec = cliquegraph.load(file)
    assert cliquegraph.loads(dumps(spec)) == spec
    total = network_cost(graph_of(spec)).total
    for key, figure in spec.expect.figures().items():
        assert figure.matches(getattr(total, key)), key


# ---- kinds are short names ------------------------------------------------------------------


def test_a_clique_is_a_graph() -> None:
    clique = shipped("cliquenet_k36_t12", "blocks.*.dropout=0", "expect={}")
    assert blocks_of(read("clique_as_graph").blocks) == blocks_of(clique.blocks)


@pytest.mark.parametrize(
    "keys",
    [
        {"edges": "ring", "order": [3, 1, 4, 2]},
        {"edges": {"nearest": 2}, "stages": 3, "update": "simultaneous"},
        {"input": {"stages": "all"}, "last_stage_updates": 2},
        {"edges": "chain", "direction": "forward", "stages": 1},
        {"edges": {"small_world": {"neighbours": 2, "rewire": 0.5, "seed": 3}}},
    ],
)
def test_a_sparse_clique_is_a_graph(keys: dict[str, Any]) -> None:
    keys = {"layers": 4, "filters": 3, "stages": 2, **keys}
    (clique,) = blocks_of(network({"kind": "clique", **keys}).blocks)
    edge = ["norm", "relu", {"conv": 3}]
    assert declared(**keys, edge=edge, feature={"input": True}) == clique


BASIC = [{"conv": 3, "reduce": True}, "norm", "relu", {"conv": 3}, "norm"]
BOTTLENECK = [
    *({"conv": 1}, "norm", "relu"),
    *({"conv": 3, "reduce": True}, "norm", "relu"),
    *({"conv": 1, "filters": "x4"}, "norm"),
]
DROP = {"last": 0.5, "per": "image", "scale": "training"}


@pytest.mark.parametrize(
    ("unit", "branch", "keys"),
    [
        ("basic", BASIC, {}),
        ("bottleneck", BOTTLENECK, {"shortcut": "pad"}),
        ("basic", BASIC, {"drop_path": DROP}),
    ],
)
def test_a_residual_unit_is_a_skip(unit: str, branch: list[Any], keys: dict[str, Any]) -> None:
    (residual,) = blocks_of(
        network(
            {
                "kind": "residual",
                "layers": 3,
                "filters": 4,
                "unit": unit,
                "stride": 2,
                "init": "fan_in",
                **keys,
            }
        ).blocks
    )
    units = declared(
        layers=3,
        filters=4,
        edges="chain",
        input={"to": "first"},
        stride=2,
        layer=[{"skip": branch, **keys}, "relu"],
        output={"layers": "last"},
    )
    assert units == residual


def fractal(columns: int = 3, **keys: Any) -> Block:
    block = {"kind": "fractal", "columns": columns, "filters": 4, **keys}
    (declared,) = blocks_of(network(block).blocks)
    return declared


def test_a_fractal_is_what_is_written_out_by_hand() -> None:
    (by_hand,) = blocks_of(read("fractal_by_hand").blocks)
    assert fractal() == by_hand


def test_a_recurrent_layer_reads_x0_and_itself() -> None:
    (recurrent,) = blocks_of(
        network({"kind": "recurrent", "filters": 4, "steps": 3, "layer": ["bias", "relu"]}).blocks
    )
    as_graph = declared(
        layers=1,
        filters=4,
        edges="none",
        self=[{"conv": 3}],
        input={"stages": "all"},
        edge=[{"conv": 3}],
        layer=["bias", "relu"],
        stages=4,
        output={"layers": "last"},
    )
    assert recurrent == as_graph
    assert [read.every_stage for read in recurrent.layer(1).reads] == [True, False]


# ---- fractals -------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", range(1, 6))
def test_a_fractal_has_its_expansion(columns: int) -> None:
    """f_1(z) = conv(z); f_{c+1}(z) joins f_c(f_c(z)) and conv(z); coinciding joins are one."""
    block = fractal(columns)

    def value(layer: int) -> Any:
        sources = [value(read.source) if read.source else "z" for read in block.layer(layer).reads]
        if block.layer(layer).ops:
            (source,) = sources
            return ("conv", source)
        return frozenset(sources)

    def expansion(c: int, z: Any) -> Any:
        if c == 1:
            return ("conv", z)
        inner = expansion(c - 1, expansion(c - 1, z))
        joined = inner if isinstance(inner, frozenset) else frozenset((inner,))
        return joined | {("conv", z)}

    assert value(len(block.layers)) == expansion(columns, "z")
    convolutions = sum(any(isinstance(op, Conv) for op in each.ops) for each in block.layers)
    assert convolutions == 2**columns - 1


def test_operands_of_joins_know_their_columns() -> None:
    block = fractal(drop_path={"local": 0.15, "global": 0.5})
    drops = [each.join_drop for each in block.layers if not each.ops]
    assert drops == [JoinDrop(0.15, 0.5, (2, 3)), JoinDrop(0.15, 0.5, (1, 2, 3))]
    assert not any(each.join_drop for each in fractal(drop_path={}).layers)


def test_a_fractal_pools_before_or_after_its_last_join() -> None:
    pool = {"kind": "max", "kernel": 3, "stride": 2}
    pooled = MaxPool(3, 2, 1)

    def where(block: Block) -> list[int]:
        return [j for j, each in enumerate(block.layers, start=1) if pooled in each.ops]

    assert where(fractal(pool=pool)) == [9]
    assert where(fractal(pool={**pool, "before_join": True})) == [5, 6, 8]
    assert where(fractal(1, pool={**pool, "before_join": True})) == [1]


# ---- keys -----------------------------------------------------------------------------------

KERNEL: list[Any] = [{"conv": 3}]


def test_each_read_has_its_own_ops() -> None:
    block = declared(
        layers=[{}, {"edge": ["relu"], "self": ["gate"]}, {"feedback": ["norm"]}, {}],
        filters=4,
        edges=[[1, 2], [2, 1], [3, 2], [4, 3], [1, 3, []], [1, 4]],
        edge=KERNEL,
        feedback=[{"conv": 1}],
        input={"to": [1, 2], "edge": [{"conv": 5}]},
        stages=2,
        layer=KERNEL,
    )
    assert block.layer(1).reads == (Read(0, (Conv(5, 4),)), Read(2, (Conv(1, 4),)))
    assert block.layer(2).reads == (
        Read(0, (Conv(5, 4),)),
        Read(1, (Relu(),)),
        Read(2, (Gate(),)),
        Read(3, (Conv(1, 4),)),
    )
    assert block.layer(3).reads == (Read(1), Read(4, (Norm(),)))
    assert block.layer(4).reads == (Read(1, (Conv(3, 4),)),)


def test_layers_have_the_width_of_what_they_do() -> None:
    block = declared(
        layers=[{"layer": KERNEL}, {"filters": 6, "layer": KERNEL}, {}],
        filters=4,
        edges=[[1, 3]],
        input={"to": [1, 2]},
        output={"layers": [2, 3]},
    )
    assert [layer.filters for layer in block.layers] == [4, 6, 4]
    assert declared(layers=1, layer=["relu"]).layer(1).filters is None


def test_what_leaves() -> None:
    block = declared(
        layers=3,
        filters=4,
        edges=[[1, 2], [1, 3]],
        edge=KERNEL,
        output={"layers": "sinks", "combine": "mean"},
        feature={"layers": [3, 1], "input": True},
    )
    assert block.transit == Output((2, 3), 1, combine="mean")
    assert block.feature == Output((1, 3), 1, with_input=True)
    last = {"layers": 3, "filters": 4, "edge": KERNEL, "order": "descending", "stages": 2}
    assert declared(**last, output={"layers": "last"}).transit == Output((1,), 2, alone=True)


def test_from_zeros_a_layer_may_read_nothing_in_stage_1() -> None:
    (block,) = blocks_of(read("cornet_rt").blocks)
    assert block.schedule.initial == "zero"
    assert block.schedule.simultaneous
    assert [[each.source for each in layer.reads] for layer in block.layers] == [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
    ]
    assert {block.norm_stage(stage) for stage in (1, 2, 5)} == {None}


def test_blocks_of_one_stage_name_none() -> None:
    assert not declared(layers=2, filters=3, edge=KERNEL).words.staged
    assert declared(layers=2, filters=3, edge=KERNEL, stages=2).words.staged


def test_drop_path_of_means() -> None:
    block = declared(layers=3, combine="mean", layer=KERNEL, filters=4, drop_path={"local": 0.25})
    drop = [layer.join_drop for layer in block.layers]
    assert drop == [JoinDrop(0.25, 0.0, (None,) * 3)] * 3


def test_layers_may_have_names() -> None:
    (block,) = blocks_of(read("blt").blocks)
    assert [layer.label for layer in block.layers] == ["V1", "V2", "V4"]
