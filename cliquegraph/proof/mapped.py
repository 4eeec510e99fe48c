"""The tensors of a hand-written model, and what of them is missing, added or of another shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Tensor
from cliquegraph.proof.weights_map import Index, Placement
from cliquegraph.semantics.arithmetic import FLOAT64, Arithmetic


@dataclass(frozen=True)
class Own:
    """What a model holds.

    Attributes:
        shapes: of its parameters and statistics, by name.
        trained: which of them are trained.
        aliases: other names of the same tensors.
        counters: the names of its counters of batches.
    """

    shapes: Mapping[str, tuple[int, ...]]
    trained: frozenset[str]
    aliases: Mapping[str, str]
    counters: frozenset[str] = frozenset()

    def name(self, name: str) -> str:
        """The first name of a tensor."""
        return self.aliases.get(name, name)


class Mapped:
    """The tensors of a hand-written model, by a weight map.

    Args:
        graph: the network as lowered.
        own: what the model holds.
        placements: where it holds the canonical tensors.
        place: the map's name, for messages.

    Raises:
        WeightsError: the map names a tensor that the model does not have, or a part of one that
            there is not.
    """

    def __init__(self, graph: Graph, own: Own, placements: Sequence[Placement], place: str) -> None:
        self._own = own
        self._declared = {tensor_name(tensor): tensor for tensor in graph.tensors}
        self._placed: list[Placement] = []
        for each in placements:
            name = own.name(each.own)
            if name in own.shapes:
                self._placed.append(each)
            elif each.line:
                close = get_close_matches(each.own, own.shapes, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise WeightsError(
                    f"{place}, line {each.line}: the model has no tensor {each.own}{hint}"
                )
        self._place = place
        self._fitting = [each for each in self._placed if not self._misfit(each)]

    # ---- as a binding ------------------------------------------------------------------------

    def own(
        self,
        tensors: Mapping[str, Array],
        arithmetic: Arithmetic = FLOAT64,
        only: Collection[str] | None = None,
    ) -> dict[str, Array]:
        """Return the model's tensors, by its own names."""
        lead = arithmetic.lead
        first = tensors[next(iter(self._declared))]
        arrays = {
            name: np.zeros((*first.shape[:lead], *shape), first.dtype)
            for name, shape in self._shapes()
            if only is None or name in only
        }
        for each in self._fitting:
            name = self._own.name(each.own)
            if name in arrays:
                _view(arrays[name], each, lead)[...] = _part(
                    tensors[each.canonical], each.part, lead
                )
        return arrays

    def canonical(self, name: str) -> tuple[str, ...]:
        """Return the canonical tensors that one of the model's holds, in order."""
        held = (each.canonical for each in self._fitting if self._own.name(each.own) == name)
        return tuple(dict.fromkeys(held))

    @property
    def counters(self) -> Mapping[str, str]:
        """The canonical running mean whose movements a counter counts, where it is known."""
        means = {
            f"{each.own.rpartition('.')[0]}.num_batches_tracked": each.canonical
            for each in self._fitting
            if each.own.rpartition(".")[2] == "running_mean"
        }
        return {counter: mean for counter, mean in means.items() if counter in self._own.counters}

    def names_of(self, canonical: str) -> str:
        """The model's own name of a canonical tensor, in words."""
        names = [each.own for each in self._fitting if each.canonical == canonical]
        return names[0] if names else canonical

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from self._own.shapes.items()

    # ---- what does not fit ---------------------------------------------------------------------

    def findings(self, needed: frozenset[str]) -> list[str]:
        """Return sentences on tensors that are missing, added, twice there or of another shape.

        Args:
            needed: the canonical tensors that the network's execution needs.
        """
        found = [text for each in self._placed if (text := self._misfit(each))]
        odd = {each.canonical for each in self._placed} - {e.canonical for e in self._fitting}
        covered = {name: np.zeros(shape) for name, shape in self._shapes()}
        placed = {name: np.zeros(each.shape) for name, each in self._declared.items()}
        holders: dict[str, list[str]] = {}
        for each in self._fitting:
            name = self._own.name(each.own)
            view = _view(covered[name], each, 0)
            if view.any():
                others = (
                    ", ".join(dict.fromkeys(o for o in holders[name] if o != each.canonical))
                    or each.canonical
                )
                found.append(
                    f"{each.canonical} and {others} are one tensor in the model, {each.own}; "
                    "declared are two"
                )
            view += 1
            holders.setdefault(name, []).append(each.canonical)
            part = _part(placed[each.canonical], each.part, 0)
            if part.any():
                found.append(f"{each.canonical} is placed twice by {self._place}")
            part += 1
        for name, count in placed.items():
            if name in odd or count.all():
                continue
            if not count.any() and name in needed:
                found.append(f"the model has no {name}, {_shape(count.shape)}, which is declared")
            elif count.any():
                found.append(f"the model has only a part of {name}, {_shape(count.shape)}")
        found += self._undeclared(covered)
        found += self._trained()
        return found

    def _undeclared(self, covered: Mapping[str, Array]) -> Iterator[str]:
        unfit = {self._own.name(each.own) for each in self._placed if each not in self._fitting}
        for name, count in covered.items():
            if name in unfit or count.all():
                continue
            kind = "parameter" if name in self._own.trained else "buffer"
            if count.any():
                yield f"nothing declares a part of the {kind} {name}, {_shape(count.shape)}"
            else:
                yield f"nothing declares the {kind} {name}, {_shape(count.shape)}"

    def _trained(self) -> Iterator[str]:
        for each in self._fitting:
            trained = self._own.name(each.own) in self._own.trained
            if trained != self._declared[each.canonical].field.trainable:
                is_, should = ("is", "is not") if trained else ("is not", "is")
                yield f"{each.own} {is_} trained, but {each.canonical} {should}"

    def _misfit(self, each: Placement) -> str:
        """A sentence if the two parts are not of one shape; empty if they are."""
        shape = self._own.shapes[self._own.name(each.own)]
        try:
            found = _view(np.empty(shape), each, 0).shape
            wanted = _part(np.empty(self._declared[each.canonical].shape), each.part, 0).shape
        except (IndexError, ValueError) as error:
            where = f"{self._place}, line {each.line}: " if each.line else ""
            raise WeightsError(f"{where}{each.own} has the shape {shape}: {error}") from None
        if found == wanted:
            return ""
        return f"{each.own} is {_shape(found)}, but {each.canonical} is declared {_shape(wanted)}"


def _view(array: Array, each: Placement, lead: int) -> Array:
    """The part of the model's tensor, as a view with the canonical axes."""
    view = array[_behind(each.index, lead)]
    if each.axes is not None:
        if sorted(each.axes) != list(range(view.ndim - lead)):
            raise ValueError(f"permute{each.axes} does not name its axes")
        view = view.transpose(*range(lead), *(lead + axis for axis in each.axes))
    return view


def _part(array: Array, part: Index, lead: int) -> Array:
    return array[_behind(part, lead)]


def _behind(index: Index, lead: int) -> tuple[int | slice | None, ...]:
    return (*(slice(None),) * lead, *index)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if shape else "one number"


def needed(graph: Graph) -> frozenset[str]:
    """The canonical tensors that the execution of a lowered graph needs."""
    read = {operand.param for node in graph.nodes for operand in node.operands}
    tensors: list[Tensor] = [piece.tensor for param in read for piece in param.pieces]
    return frozenset(map(tensor_name, tensors))
