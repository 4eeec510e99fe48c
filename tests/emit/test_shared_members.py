"""What stages share has a member of its own, whatever ops edges and layers have."""

from __future__ import annotations

from typing import Any

import pytest

import cliquegraph
from cliquegraph.diagnostics.errors import VerificationError
from tests.networks import network

BLOCKS: dict[str, dict[str, Any]] = {
    "gates of edges and of a layer": {
        "edge": ["gate"],
        "layer": ["gate", {"conv": 3}, "gate"],
        "input": {"stages": "all"},
    },
    "biases": {
        "self": [],
        "edge": ["bias", "relu"],
        "layer": ["bias", "relu", "bias", {"conv": 3}],
    },
    "biases of several kernels": {
        "self": [],
        "edge": [{"conv": 3, "bias": True}, "relu", {"conv": 1, "bias": True}],
        "layer": ["norm"],
        "stages": 3,
    },
    "a bias before a kernel that has one": {
        "self": ["bias", {"conv": 1, "bias": True}],
        "edge": ["bias", {"conv": 1, "bias": True}, "bias"],
        "layer": ["norm"],
    },
    "a kernel of a pair and banks": {
        "layers": 3,
        "edges": [[1, 2], [2, 3], [3, 2, [{"conv": 1}, "relu"]]],
        "self": [{"conv": 3, "depthwise": True}],
        "edge": [{"conv": 3}],
        "input": {"to": "first"},
    },
    "normalizations": {
        "self": [{"conv": 3}, "norm"],
        "edge": ["norm", {"conv": 3}, "norm", {"group_norm": 2}],
        "layer": ["norm", {"conv": 3}, {"group_norm": 2}],
        "input": {"stages": "all"},
    },
    "drop-path of an update that nothing reads": {
        "edge": [{"conv": 3}],
        "layer": [{"skip": [{"conv": 3}], "drop_path": {"last": 0.5}}],
        "last_stage_updates": 1,
        "output": {"layers": "last"},
    },
}


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("name", BLOCKS)
def test_no_two_tensors_are_one(name: str, level: int) -> None:
    block = {"kind": "graph", "layers": 2, "filters": 4, "stages": 2, **BLOCKS[name]}
    found = cliquegraph.verify(network(block), ["torch"], level=level)
    assert found.ok, found.first_difference


def test_two_tensors_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    block = {"kind": "graph", "layers": 2, "filters": 4, "stages": 2, "edge": ["gate"]}
    spec = network({**block, "layer": [{"conv": 3}]})
    assert cliquegraph.compile(spec, "torch")
    monkeypatch.setattr("cliquegraph.emit.names._shared_name", lambda slot, name: name)
    with pytest.raises(VerificationError, match="two members are called block1"):
        cliquegraph.compile(spec, "torch")
