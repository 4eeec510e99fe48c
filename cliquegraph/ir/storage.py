"""Converts canonical tensors to a graph's storage and back.

Arrays may have leading axes before those of the tensor, the lanes of exact arithmetic, so axes are
counted from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cliquegraph.diagnostics.arguments import require_type
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.types import Field, Param, Piece

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

# Running statistics of one feature, stored by two readers, may differ by float32 rounding.
SHARED_TOLERANCE = 1e-5
# Normalizations divide by the root of variance + eps: variances are compared relative to that.
_EPS = 1e-5


def to_storage(graph: Graph, tensors: Mapping[str, Array], lead: int = 0) -> dict[Param, Array]:
    """Return the array of each parameter of a graph, in canonical layout (OIHW).

    Args:
        graph: the network, at any -O level.
        tensors: canonical tensors by name; all are required, and no others allowed.
        lead: how many leading axes the arrays have before those of a tensor.

    Raises:
        WeightsError: tensors are missing, unexpected or of another shape, or two that the graph
            stores once disagree.
    """
    check_tensors(graph, tensors, lead)
    return {param: np.array(stored(param, tensors)) for param in graph.params}


def stored(param: Param, tensors: Mapping[str, Array]) -> Array:
    """Return the array of one parameter; may be the tensor itself, if it is the only one.

    Raises:
        WeightsError: tensors that the parameter stores once disagree.
    """
    array = _take(param, param.pieces, tensors)
    for mirror in param.mirrors:
        other = _take(param, mirror, tensors)
        floor = SHARED_TOLERANCE * (_EPS if param.field is Field.VAR else 1)
        if not np.allclose(other, array, SHARED_TOLERANCE, floor, equal_nan=True):
            names = (_extent_name(pieces) for pieces in (param.pieces, mirror))
            with np.errstate(invalid="ignore"):
                apart = np.abs(other.astype(np.float64) - array.astype(np.float64)).max()
            raise WeightsError(
                f"{' and '.join(names)} are the running statistics of one feature, but differ by "
                f"{apart:.1e}; -O0 stores each of its own"
            )
    return array


def _take(param: Param, pieces: tuple[Piece, ...], tensors: Mapping[str, Array]) -> Array:
    parts = [
        _along(_axis(param), tensors[tensor_name(piece.tensor)], piece.start, piece.stop)
        for piece in pieces
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=_axis(param))


def _extent_name(pieces: tuple[Piece, ...]) -> str:
    return " + ".join(f"{tensor_name(p.tensor)}[{p.start}:{p.stop}]" for p in pieces)


def read_operands(node: Node, field: Field, storage: Mapping[Param, Array]) -> Array:
    """Return a node's operands of one field, concatenated along the parameter's axis."""
    read = [operand for operand in node.operands if operand.param.field is field]
    parts = [_along(_axis(o.param), storage[o.param], o.start, o.stop) for o in read]
    return np.concatenate(parts, axis=_axis(read[0].param))


def from_storage(storage: Mapping[Param, Array]) -> dict[str, Array]:
    """Return the canonical tensors of parameters, by name; the inverse of ``to_storage``.

    Tensors of parameters that are missing from ``storage`` are omitted.
    """
    holdings = Holdings(storage)
    return {name: np.array(holdings.tensor(name, storage.__getitem__)) for name in holdings.names}


class Holdings:
    """Which parameters contain each canonical tensor, and where."""

    def __init__(self, params: Iterable[Param]) -> None:
        self._extents: dict[str, list[_Extent]] = {}
        for param in params:
            for pieces in param.holdings:
                position = 0
                for piece in pieces:
                    extent = _Extent(param, position, piece)
                    self._extents.setdefault(tensor_name(piece.tensor), []).append(extent)
                    position += piece.extent

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical tensors, in the order of the parameters."""
        return tuple(self._extents)

    def params(self, name: str) -> tuple[Param, ...]:
        """Return the parameters that contain a canonical tensor."""
        return tuple(extent.param for extent in self._extents[name])

    def tensor(self, name: str, read: Callable[[Param], Array]) -> Array:
        """Return a canonical tensor; ``read`` returns the array of a parameter.

        Where a parameter contains nothing else, the tensor is that array, not a copy.
        """
        whole: Array | None = None
        for extent in self._extents[name]:
            array, axis, piece = read(extent.param), _axis(extent.param), extent.piece
            part = _along(axis, array, extent.position, extent.position + piece.extent)
            lead = part.shape[: part.ndim - len(piece.tensor.shape)]
            if part.shape == (*lead, *piece.tensor.shape):
                # Copy a part: a view would keep the whole bank in memory.
                return part if part.shape == array.shape else part.copy()
            if whole is None:
                whole = np.empty((*lead, *piece.tensor.shape), array.dtype)
            _along(axis, whole, piece.start, piece.stop)[...] = part
        assert whole is not None  # noqa: S101  # every name has extents
        return whole


@dataclass(frozen=True)
class _Extent:
    """A piece of a canonical tensor, at ``position`` along its parameter's axis."""

    param: Param
    position: int
    piece: Piece


def _axis(param: Param) -> int:
    """The axis of a parameter's pieces, from the end."""
    return param.axis - len(param.shape)


def _along(axis: int, array: Array, start: int, stop: int) -> Array:
    index = [slice(None)] * array.ndim
    index[axis] = slice(start, stop)
    return array[tuple(index)]


def agree(params: Iterable[Param], tensors: dict[str, Array]) -> None:
    """Make tensors that ``params`` store once equal, in place, to those of the first reader."""
    storage = {param: _take(param, param.pieces, tensors) for param in params}
    tensors.update(from_storage(storage))


def check_tensors(
    graph: Graph,
    tensors: Mapping[str, Array],
    lead: int = 0,
    omitted: Collection[str] = (),
) -> None:
    """Raise a ``WeightsError`` unless ``tensors`` are those of the network, but for ``omitted``."""
    require_type(tensors, Mapping, "cliquegraph.model_weights(model, network)")
    shapes = {tensor_name(tensor): tensor.shape for tensor in graph.tensors}
    expected = {name: shape for name, shape in shapes.items() if name not in omitted}
    shapes = {name: tuple(array.shape[lead:]) for name, array in tensors.items()}
    if mismatches := misfits(expected, shapes):
        raise WeightsError(f"weights do not fit {graph.name}:\n{mismatches}")


def misfits(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    meaning: Mapping[str, str] | None = None,
) -> str:
    """Return lines that list what is missing, unexpected and of another shape, if anything is.

    Args:
        expected, found: shapes by name.
        meaning: canonical names by expected name, where the two differ.
    """

    def label(name: str) -> str:
        return f"{name} ({meaning[name]})" if meaning and meaning[name] != name else name

    missing = [label(name) for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shapes = [
        f"{label(name)} is {found[name]}, must be {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    mismatches = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "\n".join(_list(kind, names) for kind, names in mismatches if names)


def _list(kind: str, names: list[str], limit: int = 10) -> str:
    if len(names) == 1:
        return f"  1 {kind}: {names[0]}"
    lines = [f"  {len(names)} {kind}:", *(f"    {name}" for name in names[:limit])]
    if len(names) > limit:
        lines.append(f"    and {len(names) - limit} more")
    return "\n".join(lines)
