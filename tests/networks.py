"""Small networks for tests, and the random ones of the property tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import cliquegraph
from cliquegraph import Graph, NetworkSpec
from cliquegraph.passes.pipeline import INFERENCE, LEVELS, run_passes

SPECS = Path(__file__).parent.parent / "specs"


def network(*blocks: dict[str, Any], **changes: Any) -> NetworkSpec:
    """A network of these blocks on 8×8 images; ``changes`` replace whole sections."""
    document: dict[str, Any] = {
        "cliquegraph": 1,
        "name": "small",
        "input": {"channels": 2, "height": 8, "width": 8},
        "stem": {"filters": 4},
        "blocks": [{"kind": "clique", **block} for block in blocks],
        "classifier": {"classes": 5},
    }
    return NetworkSpec.model_validate(copy.deepcopy({**document, **changes}))


def clique(layers: int = 3, filters: int = 3, **changes: Any) -> NetworkSpec:
    """A network of one clique."""
    return network({"layers": layers, "filters": filters, **changes})


def shipped(name: str, *overrides: str) -> NetworkSpec:
    return cliquegraph.load(SPECS / f"{name}.yaml", overrides)


def graph_of(spec: NetworkSpec) -> Graph:
    """The op graph before any pass."""
    return cliquegraph.lower(cliquegraph.unroll(spec))


def graphs_of(spec: NetworkSpec) -> dict[str, Graph]:
    """The op graph before any pass, at each -O level, and folded."""
    lowered = graph_of(spec)
    levels = {f"-O{level}": run_passes(lowered, passes) for level, passes in LEVELS.items()}
    return {"lowered": lowered, **levels, "folded": run_passes(lowered, INFERENCE)}


# Its units die under three SGD steps from the weights of seed 2.
DYING = network(
    {"layers": 2, "filters": 1, "kernel": 5, "bottleneck": True, "stages": 4, "transit": 2},
    {
        "layers": 3,
        "filters": 2,
        "kernel": 1,
        "bottleneck": True,
        "order": [2, 1, 3],
        "update": "simultaneous",
        "stages": 4,
        "last_stage_updates": 2,
    },
    input={"channels": 3, "height": 3, "width": 4},
    stem={
        "filters": 1,
        "kernel": 3,
        "norm": True,
        "pool": {"kind": "max", "kernel": 3, "stride": 1},
    },
    transition={"compression": 0.5},
    classifier={"classes": 3},
)

# Between them these networks use every key of the language and every op.
EVERY_KEY = {
    "defaults": network({"layers": 3, "filters": 3}, {"layers": 2, "filters": 2}),
    "abc": network(
        {"layers": 4, "filters": 3, "bottleneck": True},
        {"layers": 3, "filters": 5, "bottleneck": True, "kernel": 5},
        stem={
            "filters": 6,
            "kernel": 7,
            "stride": 2,
            "norm": True,
            "pool": {"kind": "max", "kernel": 3, "stride": 2},
        },
        input={"channels": 3, "height": 18, "width": 22},
        transition={"attention": True},
        readout={"compression": 0.5},
    ),
    "schedule": network(
        {"layers": 4, "filters": 2, "stages": 3, "order": [3, 1, 4, 2], "last_stage_updates": 2},
        {"layers": 3, "filters": 3, "update": "simultaneous", "order": "descending"},
        {"layers": 3, "filters": 2, "feature": 1, "transit": 2},
        transition={"compression": 0.7, "pool": "max"},
    ),
    "shared_norm": network(
        {
            "layers": 3,
            "filters": 3,
            "stages": 4,
            "norm_per_stage": False,
            "bottleneck": True,
            "order": "descending",
        },
    ),
    "one_stage": network(
        {"layers": 3, "filters": 3, "stages": 1},
        {"layers": 1, "filters": 4, "stages": 1},
        {"layers": 3, "filters": 2, "feature": 1},
    ),
    "post_activation": network(
        {"layers": 3, "filters": 3, "unit": "post_activation"},
        {
            "layers": 3,
            "filters": 2,
            "unit": "post_activation",
            "bottleneck": True,
            "order": [2, 3, 1],
            "stages": 3,
        },
    ),
    "over_time": network(
        {
            "kind": "graph",
            "layers": 2,
            "filters": 3,
            "edges": "chain",
            "self": [{"conv": 3}],
            "input": {"to": "first", "stages": "all", "edge": [{"conv": 3}]},
            "edge": [{"conv": 3}],
            "layer": ["norm", "relu"],
            "stages": 3,
            "norms": "shared",
            "output": {"layers": "last"},
        },
        readout={"blocks": "last", "stages": "all", "norms": "shared"},
        training={"recipe": "cifar", "stage_weights": [0, 1, 2]},
    ),
    "over_time_per_stage": network(
        {"layers": 2, "filters": 3},
        {"layers": 3, "filters": 2, "stages": 3, "last_stage_updates": 2},
        readout={"blocks": "last", "stages": "all", "compression": 0.5, "dropout": 0.25},
    ),
    "dropout": network(
        {"layers": 3, "filters": 3, "dropout": 0.25},
        {"layers": 2, "filters": 3, "dropout": 0.25, "bottleneck": True},
        {"kind": "dense", "layers": 2, "filters": 3, "dropout": 0.25, "bottleneck": 2},
        transition={"dropout": 0.25, "attention": True},
        readout={"compression": 0.5, "dropout": 0.25},
    ),
    "dense": network(
        {"kind": "dense", "layers": 3, "filters": 3},
        {"kind": "dense", "layers": 2, "filters": 2, "bottleneck": 4},
        stem={"filters": 4, "pool": {"kind": "avg", "kernel": 2, "stride": 2}},
        transition={"compression": 0.5},
        readout={"blocks": "last"},
    ),
    "residual": network(
        {"kind": "residual", "layers": 2, "filters": 4},
        {"kind": "residual", "layers": 2, "filters": 6, "stride": 2, "zero_init": True},
        {"kind": "residual", "layers": 2, "filters": 3, "unit": "bottleneck", "stride": 2},
        stem={"filters": 4, "norm": True, "init": "fan_out"},
        transition="none",
        readout={"blocks": "last", "norm": False},
    ),
    "residual_mixed": network(
        {"kind": "residual", "layers": 2, "filters": 4, "init": "fan_in"},
        {"layers": 3, "filters": 3},
        {
            "kind": "residual",
            "layers": 2,
            "filters": 5,
            "unit": "bottleneck",
            "stride": 2,
            "reduce_in": "first",
            "shortcut": "pad",
        },
        {"kind": "dense", "layers": 2, "filters": 3},
        transition="none",
    ),
    "drop_path": network(
        {"kind": "residual", "layers": 2, "filters": 4, "drop_path": {"last": 0.5}},
        {
            "kind": "residual",
            "layers": 2,
            "filters": 3,
            "unit": "bottleneck",
            "zero_init": True,
            "drop_path": {"last": 0.25, "scale": "training"},
        },
        {
            "kind": "residual",
            "layers": 2,
            "filters": 6,
            "stride": 2,
            "drop_path": {"last": 0.5, "per": "image"},
        },
        {
            "kind": "residual",
            "layers": 2,
            "filters": 6,
            "drop_path": {"last": 0.1, "per": "image", "scale": "training"},
        },
        stem={"filters": 4, "norm": True},
        transition="none",
        readout={"blocks": "last", "norm": False},
    ),
    "join_drop": network(
        {
            "kind": "fractal",
            "columns": 3,
            "filters": 4,
            "drop_path": {"local": 0.15, "global": 0.5},
            "pool": {"kind": "max", "kernel": 2, "stride": 2, "before_join": True},
        },
        {"kind": "fractal", "columns": 2, "filters": 3, "drop_path": {"global": 0.5}},
        {"kind": "fractal", "columns": 2, "filters": 3, "drop_path": {"local": 0.5}},
        {
            "kind": "graph",
            "layers": 3,
            "filters": 3,
            "edge": ["norm", "relu", {"conv": 3}],
            "combine": "mean",
            "stages": 2,
            "drop_path": {"local": 0.25},
        },
        stem={"filters": 4, "norm": True},
        transition="none",
        readout={"blocks": "last", "norm": False},
    ),
    "residual_transitions": network(
        {"kind": "residual", "layers": 1, "filters": 4, "unit": "bottleneck"},
        {"kind": "residual", "layers": 2, "filters": 5, "stride": 2},
        transition={"attention": True},
    ),
    "three_sizes": network(
        {
            "kind": "graph",
            "layers": [{"filters": 2, "name": "V1"}, {"filters": 3}, {"filters": 4}],
            "edges": [[1, 2], [2, 3], [1, 3, [{"max_pool": 4}, {"conv": 1}]], [2, 1], [3, 2]],
            "edge": [{"max_pool": 2}, {"conv": 3}],
            "feedback": [{"conv": 1}, {"upsample": 2}],
            "self": [{"conv": 3}],
            "input": {"to": "first", "stages": "all", "edge": [{"conv": 5}]},
            "layer": ["norm", "relu"],
            "stages": 3,
            "output": {"layers": "last"},
        },
        stem="none",
        readout={"blocks": "last", "norm": False},
    ),
    "from_zeros": network(
        {
            "kind": "graph",
            "layers": [{"filters": 2}, {"filters": 4}, {"filters": 6}],
            "edges": "chain",
            "self": [],
            "input": {
                "to": "first",
                "stages": "all",
                "edge": [{"conv": 3, "bias": True}, {"group_norm": 2}, "relu"],
            },
            "edge": [{"conv": 3, "stride": 2, "bias": True}, {"group_norm": 2}, "relu"],
            "layer": [{"conv": 3}, {"group_norm": 2}, "relu"],
            "stages": 3,
            "update": "simultaneous",
            "initial": "zero",
            "norms": "shared",
            "output": {"layers": "last"},
        },
        readout={"blocks": "last", "norm": False},
    ),
    "gated": network(
        {
            "kind": "graph",
            "layers": 5,
            "filters": 4,
            "edges": {"small_world": {"neighbours": 2, "rewire": 0.75, "seed": 1}},
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
        {
            "kind": "graph",
            "layers": 2,
            "filters": 3,
            "self": [{"conv": 3, "depthwise": True}],
            "edge": [{"conv": 3}, "norm", "gate"],
            "layer": ["bias", {"avg_pool": 1}, "relu"],
            "combine": "mean",
            "stages": 3,
            "norms": "shared",
            "initial": "zero",
            "input": {"to": "all", "stages": "all"},
            "output": {"layers": [1, 2], "combine": "mean"},
            "feature": {"layers": "all", "input": True},
        },
        stem={"ops": [{"conv": 3, "filters": 3, "bias": True}, "relu", {"conv": 3, "filters": 4}]},
        transition=[{"ops": ["norm", "gate", {"conv": 1, "filters": 3}]}],
        readout={"blocks": "last", "ops": ["relu", {"conv": 1, "filters": 6}, "norm", "relu"]},
    ),
    "recurrent": network(
        {
            "kind": "recurrent",
            "filters": 4,
            "steps": 2,
            "layer": ["bias", "relu", {"local_response": {"size": 3, "alpha": 0.1, "beta": 0.75}}],
        },
        {"kind": "recurrent", "filters": 4, "steps": 1, "layer": ["norm", "relu"]},
        transition=[{"ops": [{"max_pool": 3, "stride": 2, "pad": 1}, {"dropout": 0.5}]}],
        readout={"blocks": "last", "norm": False, "pool": "max"},
    ),
    "fractal": network(
        {"kind": "fractal", "columns": 3, "filters": 3, "dropout": 0.25},
        {
            "kind": "fractal",
            "columns": 2,
            "filters": 4,
            "pool": {"kind": "max", "kernel": 2, "stride": 2, "before_join": True},
        },
        stem="none",
        transition="none",
        readout={"blocks": "last", "norm": False},
    ),
    "mixed": network(
        {"kind": "dense", "layers": 2, "filters": 3},
        {"layers": 3, "filters": 3, "last_stage_updates": 0},
        {"kind": "dense", "layers": 1, "filters": 2},
    ),
}


# ---- random networks -----------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn, max_layers: int = 7, max_stages: int = 5) -> dict[str, Any]:
    """The keys of a clique that say what is updated when."""
    layers = draw(st.integers(1, max_layers))
    stages = draw(st.integers(1, max_stages if layers > 1 else 1))
    order = draw(
        st.sampled_from(["ascending", "descending"])
        | st.permutations(range(1, layers + 1)).map(tuple)
    )
    return {
        "kind": "clique",
        "layers": layers,
        "stages": stages,
        "order": order,
        "update": draw(st.sampled_from(["alternate", "simultaneous"])),
        "last_stage_updates": draw(st.none() | st.integers(0 if stages > 1 else layers, layers)),
        "feature": draw(st.none() | st.integers(1, stages)),
        "transit": draw(st.none() | st.integers(1, stages)),
        "norm_per_stage": draw(st.booleans()),
    }


@st.composite
def cliques(draw: st.DrawFn) -> dict[str, Any]:
    return {
        **draw(schedules(max_layers=4, max_stages=3)),
        "filters": draw(st.integers(1, 3)),
        "kernel": draw(st.sampled_from([1, 3, 5])),
        "bottleneck": draw(st.booleans()),
        "unit": draw(st.sampled_from(["pre_activation", "post_activation"])),
        "dropout": draw(st.sampled_from([0.0, 0.25])),
    }


@st.composite
def dense_blocks(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": "dense",
        "layers": draw(st.integers(1, 3)),
        "filters": draw(st.integers(1, 3)),
        "bottleneck": draw(st.sampled_from([False, 1, 2])),
        "dropout": draw(st.sampled_from([0.0, 0.25])),
    }


def _rates() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.25])


@st.composite
def networks(draw: st.DrawFn) -> NetworkSpec:
    """Networks that reach every key of the language; all can be lowered."""
    blocks = draw(st.lists(cliques() | dense_blocks(), min_size=1, max_size=3))
    stem = {
        "filters": draw(st.integers(2, 5)),
        "kernel": draw(st.sampled_from([1, 3, 5])),
        "stride": draw(st.integers(1, 2)),
        "norm": draw(st.booleans()),
        "pool": draw(
            st.none()
            | st.fixed_dictionaries(
                {
                    "kind": st.sampled_from(["max", "avg"]),
                    "kernel": st.integers(1, 3),
                    "stride": st.integers(1, 2),
                }
            )
        ),
    }
    return network(
        *blocks,
        # 16 pixels outlast the stem's halvings and two transitions, 4 of them with a window of 3.
        input={
            "channels": draw(st.integers(1, 3)),
            "height": draw(st.sampled_from([20, 21, 23])),
            "width": draw(st.sampled_from([20, 22])),
        },
        stem=stem,
        transition={
            # Half of a single channel would leave the attention's first layer with none.
            "attention": draw(st.booleans()) if _least_transit(blocks) > 3 else False,
            "compression": draw(st.sampled_from([1.0, 0.75, 0.5]))
            if _least_transit(blocks) > 1
            else 1.0,
            "pool": draw(st.sampled_from(["avg", "max"])),
            "dropout": draw(_rates()),
        },
        readout={
            "blocks": draw(st.sampled_from(["all", "last"])),
            "compression": draw(st.sampled_from([None, 1.0, 0.5])),
            "dropout": draw(_rates()),
        },
    )


def _least_transit(blocks: list[dict[str, Any]]) -> int:
    return min(block["layers"] * block["filters"] for block in blocks)
