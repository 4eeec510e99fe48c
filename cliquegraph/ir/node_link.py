"""The op graph as networkx node-link JSON, from which ``ir/serialize.py`` loads an equal graph.

Equality and digests of graphs are those of this data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Protocol

from cliquegraph.ir.names import SPATIAL_KERNEL
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import Conv, MaxPool
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import (
    Bank,
    Biased,
    MapType,
    MaskType,
    MomentsType,
    Param,
    Piece,
    Slot,
    StagesType,
    Tensor,
    TensorType,
    VectorType,
    WeightsType,
    WithBias,
)

FORMAT = "cliquegraph-ir-3"
_DIGESTED = "cliquegraph-ir-2"

Json = dict[str, Any]
PARAMS: dict[type[Param], str] = {
    Param: "tensors",
    Bank: "bank",
    Biased: "biased",
    WithBias: "with_bias",
}
KINDS: dict[type[TensorType], str] = {
    MapType: "maps",
    VectorType: "vector",
    MomentsType: "moments",
    MaskType: "mask",
    WeightsType: "weights",
    StagesType: "stages",
}


class Parts(Protocol):
    """The parts of a ``Graph`` that are written: ``Graph`` imports this module, not vice versa."""

    @property
    def name(self) -> str:
        """The name of the network."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every canonical tensor."""

    @property
    def params(self) -> tuple[Param, ...]:
        """Every parameter."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are executed, in order."""

    @property
    def idle(self) -> tuple[Node, ...]:
        """The nodes that are unused but retained."""

    @property
    def logits(self) -> Value:
        """The logits."""

    @property
    def features(self) -> tuple[Value, ...]:
        """The block features."""

    @property
    def slabs(self) -> tuple[Slab, ...]:
        """The buffers of several values."""


def to_json(graph: Parts) -> Json:
    """Return the graph as node-link data (``networkx.node_link_graph`` reads it).

    ``graph.tensors`` and ``graph.params`` are tables; nodes refer to them by position.
    """
    tensors = {tensor: i for i, tensor in enumerate(graph.tensors)}
    params = {param: i for i, param in enumerate(graph.params)}
    nodes = (*graph.nodes, *graph.idle)
    place = {value: (i, k) for i, node in enumerate(nodes) for k, value in enumerate(node.outputs)}
    return {
        "directed": True,
        "multigraph": True,
        "graph": {
            "format": FORMAT,
            "name": graph.name,
            "tensors": [_tensor(tensor) for tensor in tensors],
            "params": [_param(param, tensors) for param in params],
            "logits": list(place[graph.logits]),
            "features": [list(place[value]) for value in graph.features],
            **_slabs(graph, place),
        },
        "nodes": [
            {**_node(i, node, params), "idle": i >= len(graph.nodes)}
            for i, node in enumerate(nodes)
        ],
        "edges": [
            {"source": place[v][0], "target": i, "key": k, "output": place[v][1], "input": k}
            for i, node in enumerate(nodes)
            for k, v in enumerate(node.inputs)
        ],
    }


def _slabs(graph: Parts, place: dict[Value, tuple[int, int]]) -> Json:
    """The slabs, if there are any: without them a graph is what it was before there were slabs."""
    slabs = [[list(place[value]) for value in slab.values] for slab in graph.slabs]
    return {"slabs": slabs} if slabs else {}


def structure(graph: Parts) -> Json:
    """Return ``to_json`` without the lines of the spec, which are not part of the structure."""
    data = to_json(graph)
    for node in data["nodes"]:
        del node["origin"]["line"]
    return data


def digest(graph: Parts) -> str:
    """Return the SHA-256 of the graph without the lines of the spec and the network's name.

    What format 3 added is left out where it says what format 2 meant, so that a network of an
    earlier version has the digest that its weights have.
    """
    data = structure(graph)
    del data["graph"]["name"]
    data["graph"]["format"] = _DIGESTED
    for entry in (*data["graph"]["tensors"], *data["graph"]["params"]):
        _as_before(entry["slot"])
    for node in data["nodes"]:
        _attributes_as_before(node["op"], node["attributes"])
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _as_before(slot: Json) -> None:
    if not slot.pop("shared") and slot["role"] == SPATIAL_KERNEL and "index" in slot:
        slot["role"] = f"own_{SPATIAL_KERNEL}"


def _attributes_as_before(op: str, attributes: Json) -> None:
    if op == Conv.mnemonic and not attributes["depthwise"]:
        del attributes["depthwise"]
    if op == MaxPool.mnemonic and attributes["padding"] == (attributes["kernel"] - 1) // 2:
        del attributes["padding"]


def _node(index: int, node: Node, params: dict[Param, int]) -> Json:
    return {
        "id": index,
        "op": node.op.mnemonic,
        "attributes": asdict(node.op),
        "operands": [
            {"param": params[o.param], "start": o.start, "stop": o.stop} for o in node.operands
        ],
        "outputs": [{"type": _type(v.type), "hint": v.hint} for v in node.outputs],
        "origin": asdict(node.origin),
        "recompute": node.recompute,
    }


def _tensor(tensor: Tensor) -> Json:
    return {**asdict(tensor), "slot": _slot(tensor.slot), "shape": list(tensor.shape)}


def _slot(slot: Slot) -> Json:
    """A slot without an index is written without the key, to keep digests stable."""
    data = asdict(slot)
    return data if slot.index is not None else {k: v for k, v in data.items() if k != "index"}


def _param(param: Param, tensors: dict[Tensor, int]) -> Json:
    return {
        "slot": _slot(param.slot),
        "field": param.field,
        "axis": param.axis,
        "kind": PARAMS[type(param)],
        "pieces": _pieces(param.pieces, tensors),
        "mirrors": [_pieces(mirror, tensors) for mirror in param.mirrors],
    }


def _pieces(pieces: Iterable[Piece], tensors: dict[Tensor, int]) -> list[Json]:
    return [{"tensor": tensors[p.tensor], "start": p.start, "stop": p.stop} for p in pieces]


def _type(value: TensorType) -> Json:
    return {"kind": KINDS[type(value)], **asdict(value)}
