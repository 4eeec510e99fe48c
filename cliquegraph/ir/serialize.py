"""The op graph as networkx node-link JSON; it loads back to an equal graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.ir.graph import Graph, Node, Origin, Value
from cliquegraph.ir.ops import OPS, Op
from cliquegraph.ir.types import (
    Bank,
    Biased,
    Field,
    Init,
    MapType,
    MomentsType,
    Param,
    ParamSlice,
    Part,
    Piece,
    Section,
    Slot,
    Tensor,
    TensorType,
    VectorType,
)
from cliquegraph.ir.verify import verify_graph

FORMAT = "cliquegraph-ir-2"

Json = dict[str, Any]
_OPS: dict[str, type[Op]] = {op.mnemonic: op for op in OPS}
_PARAMS: dict[type[Param], str] = {Param: "tensors", Bank: "bank", Biased: "biased"}
_KINDS: dict[type[TensorType], str] = {
    MapType: "maps",
    VectorType: "vector",
    MomentsType: "moments",
}


def to_json(graph: Graph) -> Json:
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


def from_json(data: Json) -> Graph:
    """Return the graph that ``to_json`` wrote.

    Raises:
        UsageError: the data is not of this format, or is damaged.
    """
    try:
        graph = _load(data)
        verify_graph(graph)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"not an op graph of format {FORMAT}: {error!r}") from None
    except VerificationError as error:
        raise UsageError(f"a damaged op graph: {error}") from None
    return graph


def structure(graph: Graph) -> Json:
    """Return ``to_json`` without the lines of the spec: where a network was written is no part."""
    data = to_json(graph)
    for node in data["nodes"]:
        del node["origin"]["line"]
    return data


def digest(graph: Graph) -> str:
    """Return the SHA-256 of the graph without the lines of the spec and the network's name."""
    data = structure(graph)
    del data["graph"]["name"]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _load(data: Json) -> Graph:
    head = data["graph"]
    if head["format"] != FORMAT:
        raise ValueError(f"format {head['format']!r}")
    tensors = [_load_tensor(entry) for entry in head["tensors"]]
    params = [_load_param(entry, tensors) for entry in head["params"]]
    inputs: dict[int, list[tuple[int, int, int]]] = {}
    for edge in data["edges"]:
        inputs.setdefault(edge["target"], []).append(
            (edge["input"], edge["source"], edge["output"])
        )
    nodes: list[Node] = []
    idle = 0  # they stand last
    for entry in data["nodes"]:
        origin = entry["origin"]
        nodes.append(
            Node(
                op=_load_op(entry["op"], entry["attributes"]),
                inputs=tuple(
                    nodes[i].outputs[k] for _, i, k in sorted(inputs.get(entry["id"], []))
                ),
                operands=tuple(
                    ParamSlice(params[o["param"]], o["start"], o["stop"]) for o in entry["operands"]
                ),
                outputs=tuple(Value(_load_type(o["type"]), o["hint"]) for o in entry["outputs"]),
                origin=Origin(
                    _load_section(origin["section"]),
                    origin["stage"],
                    origin["layer"],
                    origin["line"],
                ),
                recompute=entry["recompute"],
            )
        )
        idle += bool(entry["idle"])

    def value(place: list[int]) -> Value:
        return nodes[place[0]].outputs[place[1]]

    features = tuple(value(place) for place in head["features"])
    executed = len(nodes) - idle
    return Graph(
        name=head["name"],
        tensors=tuple(tensors),
        nodes=tuple(nodes[:executed]),
        logits=value(head["logits"]),
        features=features,
        idle=tuple(nodes[executed:]),
    )


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
    return {**asdict(tensor), "shape": list(tensor.shape)}


def _param(param: Param, tensors: dict[Tensor, int]) -> Json:
    return {
        "slot": asdict(param.slot),
        "field": param.field,
        "axis": param.axis,
        "kind": _PARAMS[type(param)],
        "pieces": _pieces(param.pieces, tensors),
        "mirrors": [_pieces(mirror, tensors) for mirror in param.mirrors],
    }


def _pieces(pieces: Iterable[Piece], tensors: dict[Tensor, int]) -> list[Json]:
    return [{"tensor": tensors[p.tensor], "start": p.start, "stop": p.stop} for p in pieces]


def _type(value: TensorType) -> Json:
    return {"kind": _KINDS[type(value)], **asdict(value)}


def _load_type(entry: Json) -> TensorType:
    (kind,) = (kind for kind, name in _KINDS.items() if name == entry["kind"])
    return kind(**{name: size for name, size in entry.items() if name != "kind"})


def _load_section(entry: Json) -> Section:
    return Section(Part(entry["part"]), entry["index"])


def _load_slot(entry: Json) -> Slot:
    return Slot(**{**entry, "section": _load_section(entry["section"])})


def _load_tensor(entry: Json) -> Tensor:
    return Tensor(
        _load_slot(entry["slot"]), Field(entry["field"]), tuple(entry["shape"]), Init(entry["init"])
    )


def _load_param(entry: Json, tensors: list[Tensor]) -> Param:
    (kind,) = (kind for kind, name in _PARAMS.items() if name == entry["kind"])
    return kind(
        slot=_load_slot(entry["slot"]),
        field=Field(entry["field"]),
        pieces=_load_pieces(entry["pieces"], tensors),
        axis=entry["axis"],
        mirrors=tuple(_load_pieces(mirror, tensors) for mirror in entry["mirrors"]),
    )


def _load_pieces(entries: list[Json], tensors: list[Tensor]) -> tuple[Piece, ...]:
    return tuple(Piece(tensors[p["tensor"]], p["start"], p["stop"]) for p in entries)


def _load_op(mnemonic: str, attributes: Json) -> Op:
    return _OPS[mnemonic](**attributes)
