"""The authors' PyTorch ImageNet model at tiny widths: numbers that nobody here computed.

``fixtures/official_tiny.npz`` holds its weights, an input, and what it computes from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cliquegraph import Graph, NetworkSpec
from cliquegraph.ir.names import param_name
from cliquegraph.weights.official import OfficialLayout
from cliquegraph.weights.storage import Array

FIXTURE = Path(__file__).parent / "fixtures" / "official_tiny"


def official_spec() -> NetworkSpec:
    about = json.loads(FIXTURE.with_suffix(".json").read_text(encoding="utf-8"))
    widths = zip(about["list_layer_num"], about["list_channels"], strict=True)
    return NetworkSpec.model_validate(
        {
            "cliquegraph": 1,
            "name": "official_tiny",
            "input": {"channels": 3, "height": 224, "width": 224},
            "stem": {
                "filters": about["input_channels"],
                "kernel": 7,
                "stride": 2,
                "norm": True,
                "pool": {"kind": "max", "kernel": 3, "stride": 2},
            },
            "blocks": [
                {"kind": "clique", "layers": layers, "filters": filters, "bottleneck": True}
                for layers, filters in widths
            ],
            "transition": {"attention": about["if_att"]},
            "readout": {"compression": 0.5},
            "classifier": {"classes": about["num_classes"]},
            "expect": {"parameters": about["parameters"]},
        }
    )


def official_arrays() -> dict[str, Array]:
    with np.load(FIXTURE.with_suffix(".npz")) as arrays:
        return dict(arrays)


def official_keys(graph: Graph) -> dict[str, str]:
    """The authors' key of each canonical name; ``graph`` is as lowered."""
    layout = OfficialLayout(graph)
    return {param_name(param): layout.name(param) for param in graph.params}


def taken(arrays: Mapping[str, Any], group: str, keys: Mapping[str, str]) -> dict[str, Array]:
    """The arrays of one group of the fixture by canonical name; what it lacks is left out."""
    return {
        name: arrays[f"{group}/{key}"] for name, key in keys.items() if f"{group}/{key}" in arrays
    }


def group(arrays: Mapping[str, Any], name: str) -> Iterator[str]:
    """The authors' keys of one group."""
    return (key.removeprefix(f"{name}/") for key in arrays if key.startswith(f"{name}/"))
