"""Models of others, at tiny widths: their figures, weights and results, and our spec of each.

``fixtures/*.npz`` hold the weights of a model, an input, and what it computed from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.weights.torchvision import TorchvisionLayout

FIXTURES = Path(__file__).parents[1] / "fixtures"

_LOCAL_RESPONSE = {"local_response": {"size": 3, "alpha": 0.001, "beta": 0.75}}
_OVERLAPPING = {"max_pool": 3, "stride": 2, "pad": 1}
_POOL = {"kind": "max", "kernel": 3, "stride": 2}
_CHAIN = {"transition": "none", "readout": {"blocks": "last", "norm": False}}
SPECS: dict[str, dict[str, Any]] = {
    "resnet_basic_torchvision": {
        "input": {"channels": 3, "height": 64, "width": 64},
        "stem": {"filters": 6, "kernel": 7, "stride": 2, "norm": True, "pool": _POOL},
        "blocks": [
            {"kind": "residual", "layers": 2, "filters": 6},
            {"kind": "residual", "layers": 2, "filters": 12, "stride": 2},
            {"kind": "residual", "layers": 3, "filters": 24, "stride": 2},
            {"kind": "residual", "layers": 2, "filters": 48, "stride": 2},
        ],
        **_CHAIN,
    },
    "resnet_cifar_a_felixgwu": {
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": {"filters": 16, "norm": True},
        "blocks": [
            {
                "kind": "residual",
                "layers": 3,
                "filters": filters,
                "stride": stride,
                "shortcut": "pad",
            }
            for filters, stride in ((16, 1), (32, 2), (64, 2))
        ],
        **_CHAIN,
    },
    "stochastic_depth_authors": {
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": {"filters": 8, "norm": True},
        "blocks": [
            {
                "kind": "residual",
                "layers": 3,
                "filters": filters,
                "stride": stride,
                "shortcut": "pad",
                "drop_path": {"last": 0.5},
            }
            for filters, stride in ((8, 1), (16, 2), (32, 2))
        ],
        **_CHAIN,
    },
    "densenet_bc_torchvision": {
        "input": {"channels": 3, "height": 64, "width": 64},
        "stem": {"filters": 8, "kernel": 7, "stride": 2, "norm": True, "pool": _POOL},
        "blocks": [
            {"kind": "dense", "layers": layers, "filters": 4, "bottleneck": 4}
            for layers in (3, 4, 5, 3)
        ],
        "transition": {"compression": 0.5},
        "readout": {"blocks": "last"},
    },
    "rcnn_ref": {
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": {
            "ops": [{"conv": 5, "filters": 16, "bias": True}, "relu", _LOCAL_RESPONSE, _OVERLAPPING]
        },
        "blocks": [
            {
                "kind": "recurrent",
                "filters": 16,
                "steps": 3,
                "layer": ["bias", "relu", _LOCAL_RESPONSE],
            }
        ]
        * 4,
        "transition": [{"ops": []}, {"ops": [_OVERLAPPING]}, {"ops": []}],
        "readout": {"blocks": "last", "norm": False, "pool": "max"},
    },
    "fractalnet_khanrc": {
        "input": {"channels": 3, "height": 32, "width": 32},
        "stem": "none",
        "blocks": [
            {
                "kind": "fractal",
                "columns": 3,
                "filters": filters,
                "pool": {"kind": "max", "kernel": 2, "stride": 2, "before_join": False},
            }
            for filters in (4, 8, 16, 32, 32)
        ],
        **_CHAIN,
    },
    "cornet_s_official": {
        "input": {"channels": 3, "height": 64, "width": 64},
        "stem": {
            "ops": [
                {"conv": 7, "filters": 6, "stride": 2},
                "norm",
                "relu",
                _OVERLAPPING,
                {"conv": 3, "filters": 6},
                "norm",
                "relu",
                {"conv": 1, "filters": 8},
            ]
        },
        "blocks": [
            {
                "kind": "graph",
                "layers": 1,
                "filters": filters,
                "edges": "none",
                "self": [],
                "stages": stages,
                "stride": 2,
                "layer": [
                    {
                        "skip": [
                            {"conv": 1, "filters": "x4"},
                            "norm",
                            "relu",
                            {"conv": 3, "filters": "x4", "reduce": True},
                            "norm",
                            "relu",
                            {"conv": 1},
                            "norm",
                        ]
                    },
                    "relu",
                ],
                "output": {"layers": "last"},
            }
            for filters, stages in ((8, 2), (10, 3), (12, 2))
        ],
        "transition": [{"ops": [{"conv": 1, "filters": filters}]} for filters in (10, 12)],
        "readout": {"blocks": "last", "norm": False},
    },
}


@cache
def about(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


@cache
def arrays(name: str) -> dict[str, Any]:
    with np.load(FIXTURES / f"{name}.npz") as loaded:
        return dict(loaded)


@cache
def compilation(name: str, level: int = 0) -> Compilation:
    document = {"cliquegraph": 1, "name": name, "classifier": {"classes": 10}, **SPECS[name]}
    return Compilation(NetworkSpec.model_validate(document), level)


@cache
def keys(name: str) -> dict[str, str]:
    """Their key of each canonical name."""
    lowered = compilation(name).lowered
    if name in _KEYS:
        tensors = [tensor_name(tensor) for tensor in lowered.tensors]
        return {tensor: _replace(tensor, _KEYS[name]) for tensor in tensors}
    named = _authors_key if name.endswith("authors") else str
    return {ours: named(theirs) for ours, theirs in _torchvision_keys(lowered)}


def _torchvision_keys(lowered: Graph) -> Iterator[tuple[str, str]]:
    layout = TorchvisionLayout(lowered)
    for param in lowered.params:
        for piece in param.pieces:
            yield tensor_name(piece.tensor), layout.name(param)


_ENDS = {"conv1": "stem", "bn1": "bn"}


def _authors_key(key: str) -> str:
    """The key of stochastic depth's fixture for torchvision's: units are numbered through."""
    owner, field = key.rsplit(".", 1)
    if unit := re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn)(\d)", owner):
        block, number, kind, place = unit.groups()
        owner = f"blocks.{3 * int(block) - 3 + int(number)}.{kind[0]}{place}"
    return f"{_ENDS.get(owner, owner)}.{field}"


_FIELDS = {r"\.scale$": ".weight", r"\.(mean|var)$": r".running_\1"}
_AREAS = {"1": "V2", "2": "V4", "3": "IT"}
# Ours counts layers in the order in which they are computed; theirs is the column, from the
# shallowest, and the row in which the layer ends.
_ROWS = {"1": "1.1", "2": "2.0", "3": "2.1", "5": "0.3", "6": "1.3", "7": "2.2", "8": "2.3"}
_KEYS = {
    "rcnn_ref": {
        r"^stem\.conv1": "c",
        r"^classifier": "fc",
        **{rf"^block{b}\.w0_1": f"r.{b - 1}.f" for b in range(1, 5)},
        **{rf"^block{b}\.(w1_1|x1)": f"r.{b - 1}.r" for b in range(1, 5)},
    },
    "fractalnet_khanrc": {
        r"^classifier": "layers.11",
        **{rf"^block{b}": f"layers.{2 * b - 2}" for b in range(1, 6)},  # pools are between
        **{rf"\.v{j}\.": f".columns.{row}.conv." for j, row in _ROWS.items()},
        **{rf"\.x{j}\.norm1\.": f".columns.{row}.bn." for j, row in _ROWS.items()},
        **_FIELDS,
    },
    "cornet_s_official": {
        r"^stem\.conv3": "V2.conv_input",
        r"^stem": "V1",
        r"^transition1\.conv1": "V4.conv_input",
        r"^transition2\.conv1": "IT.conv_input",
        r"^classifier": "decoder.linear",
        **{rf"^block{b}\.(x1\.)?": f"{area}." for b, area in _AREAS.items()},
        r"\.v1_(\d)\.": r".conv\1.",
        r"\.s1\.shortcut\.conv": ".skip",
        r"\.s1\.shortcut\.norm": ".norm_skip",
        **{rf"\.s{s}\.norm(\d)": rf".norm\1_{s - 1}" for s in (1, 2, 3)},
        **_FIELDS,
    },
}
"""What is replaced in a canonical name, in order."""


def _replace(name: str, changes: dict[str, str]) -> str:
    for pattern, replacement in changes.items():
        name = re.sub(pattern, replacement, name)
    return name


def group(name: str, of: str) -> dict[str, Array]:
    """The arrays of one group by canonical name, without those that it lacks."""
    pairs = ((ours, f"{of}/{theirs}") for ours, theirs in keys(name).items())
    return {ours: arrays(name)[key] for ours, key in pairs if key in arrays(name)}
