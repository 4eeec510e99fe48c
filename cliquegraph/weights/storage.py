"""Canonical tensors to a graph's storage and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cliquegraph.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.types import Param

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def to_storage(graph: Graph, tensors: Mapping[str, Array]) -> dict[Param, Array]:
    """Return what each parameter of a graph holds, in canonical layout (OIHW).

    Args:
        graph: the network, at any -O level.
        tensors: canonical tensors by name; every one is needed, and no other allowed.

    Raises:
        WeightsError: tensors are missing, unexpected or of another shape.
    """
    check_tensors(graph, tensors)
    return {
        param: np.concatenate(
            [
                np.take(
                    tensors[tensor_name(piece.tensor)],
                    np.arange(piece.start, piece.stop),
                    axis=param.axis,
                )
                for piece in param.pieces
            ],
            axis=param.axis,
        )
        for param in graph.params
    }


def from_storage(storage: Mapping[Param, Array]) -> dict[str, Array]:
    """Return the canonical tensors that parameters hold, by name; ``to_storage`` undone.

    Parameters that are left out of ``storage`` leave out their tensors.
    """
    tensors: dict[str, Array] = {}
    for param, held in storage.items():
        position = 0
        for piece in param.pieces:
            extent = piece.extent
            name = tensor_name(piece.tensor)
            whole = tensors.setdefault(name, np.empty(piece.tensor.shape, held.dtype))
            part = np.take(held, np.arange(position, position + extent), axis=param.axis)
            index = [slice(None)] * held.ndim
            index[param.axis] = slice(piece.start, piece.stop)
            whole[tuple(index)] = part
            position += extent
    return tensors


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
