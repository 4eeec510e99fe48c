"""Loads op graphs from node-link JSON."""

from __future__ import annotations

from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.node_link import FORMAT, KINDS, PARAMS, Json
from cliquegraph.ir.nodes import Node, Origin, Value
from cliquegraph.ir.ops import OPS, Op
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import (
    Field,
    Init,
    Param,
    ParamSlice,
    Part,
    Piece,
    Section,
    Slot,
    Tensor,
    TensorType,
)
from cliquegraph.ir.verify import verify_graph

_OPS: dict[str, type[Op]] = {op.mnemonic: op for op in OPS}


def from_json(data: Json) -> Graph:
    """Return the graph that ``to_json`` wrote.

    Raises:
        UsageError: the data has another format, or is corrupt.
    """
    try:
        graph = _load(data)
        verify_graph(graph)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"not an op graph of format {FORMAT}: {error!r}") from None
    except VerificationError as error:
        raise UsageError(f"a damaged op graph: {error}") from None
    return graph


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
    idle = 0  # unused nodes come last
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
        slabs=tuple(Slab(tuple(map(value, each))) for each in head.get("slabs", [])),
    )


def _load_type(entry: Json) -> TensorType:
    (factory,) = (each for each, name in KINDS.items() if name == entry["kind"])
    return factory(**{name: size for name, size in entry.items() if name != "kind"})


def _load_section(entry: Json) -> Section:
    return Section(Part(entry["part"]), entry["index"])


def _load_slot(entry: Json) -> Slot:
    return Slot(**{**entry, "section": _load_section(entry["section"])})


def _load_tensor(entry: Json) -> Tensor:
    return Tensor(
        _load_slot(entry["slot"]), Field(entry["field"]), tuple(entry["shape"]), Init(entry["init"])
    )


def _load_param(entry: Json, tensors: list[Tensor]) -> Param:
    (factory,) = (each for each, name in PARAMS.items() if name == entry["kind"])
    return factory(
        slot=_load_slot(entry["slot"]),
        field=Field(entry["field"]),
        pieces=_load_pieces(entry["pieces"], tensors),
        axis=entry["axis"],
        mirrors=tuple(_load_pieces(mirror, tensors) for mirror in entry["mirrors"]),
    )


def _load_pieces(entries: list[Json], tensors: list[Tensor]) -> tuple[Piece, ...]:
    return tuple(Piece(tensors[p["tensor"]], p["start"], p["stop"]) for p in entries)


def _load_op(mnemonic: str, attributes: Json) -> Op:
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in attributes.items()
    }
    return _OPS[mnemonic](**values)
