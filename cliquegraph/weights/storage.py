"""Canonical tensors to a graph's storage and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cliquegraph.errors import WeightsError
from cliquegraph.ir.graph import Graph, Node
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.types import Field, Param, Piece

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

# Running statistics of one feature that two readers hold: apart by rounding in float32 at most.
SHARED_TOLERANCE = 1e-5


def to_storage(graph: Graph, tensors: Mapping[str, Array]) -> dict[Param, Array]:
    """Return what each parameter of a graph holds, in canonical layout (OIHW).

    Args:
        graph: the network, at any -O level.
        tensors: canonical tensors by name; every one is needed, and no other allowed.

    Raises:
        WeightsError: tensors are missing, unexpected or of another shape, or two that the graph
            stores once disagree.
    """
    check_tensors(graph, tensors)
    return {param: _joined(param, tensors) for param in graph.params}


def _joined(param: Param, tensors: Mapping[str, Array]) -> Array:
    held = _take(param, param.pieces, tensors)
    for mirror in param.mirrors:
        other = _take(param, mirror, tensors)
        if not np.allclose(other, held, rtol=SHARED_TOLERANCE, atol=SHARED_TOLERANCE):
            names = (_extent_name(pieces) for pieces in (param.pieces, mirror))
            raise WeightsError(
                f"{' and '.join(names)} are the running statistics of one feature, but differ by "
                f"{np.abs(other - held).max():.1e}; -O0 stores each of its own"
            )
    return held


def _take(param: Param, pieces: tuple[Piece, ...], tensors: Mapping[str, Array]) -> Array:
    parts = [
        np.take(
            tensors[tensor_name(piece.tensor)],
            np.arange(piece.start, piece.stop),
            axis=param.axis,
        )
        for piece in pieces
    ]
    return np.concatenate(parts, axis=param.axis)


def _extent_name(pieces: tuple[Piece, ...]) -> str:
    return " + ".join(f"{tensor_name(p.tensor)}[{p.start}:{p.stop}]" for p in pieces)


def read_operands(node: Node, field: Field, storage: Mapping[Param, Array]) -> Array:
    """Return what a node's operands of one field hold, joined along the parameter's axis."""
    parts = [operand for operand in node.operands if operand.param.field is field]
    slices = [
        np.take(storage[part.param], np.arange(part.start, part.stop), axis=part.param.axis)
        for part in parts
    ]
    return np.concatenate(slices, axis=parts[0].param.axis)


def from_storage(storage: Mapping[Param, Array]) -> dict[str, Array]:
    """Return the canonical tensors that parameters hold, by name; ``to_storage`` undone.

    Parameters that are left out of ``storage`` leave out their tensors.
    """
    tensors: dict[str, Array] = {}
    for param, held in storage.items():
        for pieces in param.holdings:
            _put(param, pieces, held, tensors)
    return tensors


def _put(param: Param, pieces: tuple[Piece, ...], held: Array, tensors: dict[str, Array]) -> None:
    position = 0
    for piece in pieces:
        extent = piece.extent
        name = tensor_name(piece.tensor)
        whole = tensors.setdefault(name, np.empty(piece.tensor.shape, held.dtype))
        part = np.take(held, np.arange(position, position + extent), axis=param.axis)
        index = [slice(None)] * held.ndim
        index[param.axis] = slice(piece.start, piece.stop)
        whole[tuple(index)] = part
        position += extent


def agree(graph: Graph, tensors: dict[str, Array]) -> None:
    """Make tensors that ``graph`` stores once equal, in place; the first reader's count."""
    for param in graph.params:
        held = _take(param, param.pieces, tensors)
        for mirror in param.mirrors:
            _put(param, mirror, held, tensors)


def check_tensors(graph: Graph, tensors: Mapping[str, Array]) -> None:
    """Raise a ``WeightsError`` unless ``tensors`` are exactly those of the network."""
    expected = {tensor_name(tensor): tensor.shape for tensor in graph.tensors}
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, must be {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    lines = [_list(kind, names) for kind, names in faults if names]
    if lines:
        raise WeightsError(f"weights do not fit {graph.name}:\n" + "\n".join(lines))


def _list(kind: str, names: list[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"  {len(names)} {kind}: {', '.join(names[:limit])}{more}"
