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
from cliquegraph.ir.names import EDGE_KERNEL, SPATIAL_KERNEL, tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field, Part, Slot, Tensor

FIXTURE = Path(__file__).parent / "fixtures" / "official_tiny"

_FIELDS = {
    Field.WEIGHT: "weight",
    Field.SCALE: "weight",
    Field.BIAS: "bias",
    Field.MEAN: "running_mean",
    Field.VAR: "running_var",
}
_NORMS = {
    ("norm", 1): "forward_bn",
    ("norm", 2): "loop_bn",
    ("mid_norm", 1): "forward_bn_b",
    ("mid_norm", 2): "loop_bn_b",
}
_ROLES = {
    (Part.STEM, "conv"): "fir_trans",
    (Part.STEM, "norm"): "fir_bn",
    (Part.TRANSITION, "norm"): "list_trans.{b}.bn",
    (Part.TRANSITION, "conv"): "list_trans.{b}.conv",
    (Part.TRANSITION, "attention.fc1"): "list_trans.{b}.attention.fc1",
    (Part.TRANSITION, "attention.fc2"): "list_trans.{b}.attention.fc2",
    (Part.READOUT, "compress.norm"): "list_compress.{b}.bn",
    (Part.READOUT, "compress.conv"): "list_compress.{b}.conv",
    (Part.READOUT, "norm"): "list_gb.{b}.bn",
    (Part.CLASSIFIER, ""): "fc",
}


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


def official_key(spec: NetworkSpec, tensor: Tensor) -> str:
    """What the authors call a tensor."""
    return f"{_owner(spec, tensor.slot)}.{_FIELDS[tensor.field]}"


def _owner(spec: NetworkSpec, slot: Slot) -> str:
    if slot.section.part is not Part.BLOCK:
        return _ROLES[slot.section.part, slot.role].format(b=slot.section.index - 1)
    assert slot.layer is not None
    block = f"list_block.{slot.section.index - 1}"
    if slot.role == EDGE_KERNEL:
        assert slot.source is not None
        n = spec.blocks[slot.section.index - 1].layers
        return f"{block}.conv_param.{slot.source * (n + 1) + slot.layer}"
    if slot.role == SPATIAL_KERNEL:
        return f"{block}.conv_param_bottle.{slot.layer - 1}"
    assert slot.stage is not None
    return f"{block}.{_NORMS[slot.role, slot.stage]}.{slot.layer - 1}"


def official_keys(spec: NetworkSpec, graph: Graph) -> dict[str, str]:
    """The authors' key of each canonical name."""
    return {tensor_name(tensor): official_key(spec, tensor) for tensor in graph.tensors}


def taken(arrays: Mapping[str, Any], group: str, keys: Mapping[str, str]) -> dict[str, Array]:
    """The arrays of one group of the fixture by canonical name; what it lacks is left out."""
    return {
        name: arrays[f"{group}/{key}"] for name, key in keys.items() if f"{group}/{key}" in arrays
    }


def group(arrays: Mapping[str, Any], name: str) -> Iterator[str]:
    """The authors' keys of one group."""
    return (key.removeprefix(f"{name}/") for key in arrays if key.startswith(f"{name}/"))
