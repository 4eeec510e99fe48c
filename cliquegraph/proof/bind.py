"""Which tensors of a model hold which canonical tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Protocol

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array, misfits, stored
from cliquegraph.ir.types import Field, Param
from cliquegraph.proof.program import Tracer
from cliquegraph.semantics.arithmetic import FLOAT64, Arithmetic
from cliquegraph.weights.layout import Format, Layout


class Binding(Protocol):
    """The tensors of a model, as functions of the canonical tensors."""

    def own(
        self,
        tensors: Mapping[str, Array],
        arithmetic: Arithmetic = FLOAT64,
        only: Collection[str] | None = None,
    ) -> dict[str, Array]:
        """Return the model's tensors by its own names, of its own shapes; arrays are copies.

        Args:
            tensors: the canonical tensors by name, in this arithmetic.
            arithmetic: in which the tensors of a folded model are computed.
            only: the names of the model's tensors that are wanted; default: all.
        """

    def canonical(self, name: str) -> tuple[str, ...]:
        """Return the canonical tensors that one of the model's holds, in order."""

    @property
    def counters(self) -> Mapping[str, str]:
        """The canonical running mean whose movements each of the model's counters counts."""


class Generated:
    """The tensors of a generated model."""

    def __init__(self, compilation: Compilation, layout: Layout) -> None:
        self._compilation, self._layout = compilation, layout
        self._graph: Graph = compilation.graph

    def own(
        self,
        tensors: Mapping[str, Array],
        arithmetic: Arithmetic = FLOAT64,
        only: Collection[str] | None = None,
    ) -> dict[str, Array]:
        """Return the model's tensors; those of a folded model are computed."""
        if self._compilation.inference:
            tensors = self._compilation.folded(tensors, arithmetic)
        lead = arithmetic.lead
        arrays = {}
        for name, param in self._params.items():
            if only is None or name in only:
                axes = (*range(lead), *(lead + axis for axis in self._layout.axes(param)))
                arrays[name] = np.array(np.transpose(stored(param, tensors), axes))
        return arrays

    def canonical(self, name: str) -> tuple[str, ...]:
        """Return the canonical tensors, in order, that a tensor of the model holds."""
        return self._canonical[name]

    def misfit(self, tracer: Tracer, counters: Collection[str]) -> str | None:
        """Return a sentence if a model's state is not that of the graph.

        Args:
            tracer: of the model.
            counters: the names of the model's counters of batches.
        """
        wanted = Format("generated", self._graph, self._layout)
        if lines := misfits(wanted.shapes, tracer.shapes):
            return f"the model does not have the tensors of {self._graph.name}:\n{lines}"
        trained = tracer.parameters
        for name, param in wanted.params.items():
            if param.field.trainable != (name in trained):
                is_, should = ("is", "is not") if name in trained else ("is not", "is")
                return f"{name} {is_} trained, but {should} as declared"
        if other := wanted.counters.keys() ^ set(counters):
            name = min(other)
            verb = "is not declared" if name in counters else "is declared, the model has none"
            return f"the counter of batches {name} {verb}"
        return None

    @cached_property
    def unread(self) -> frozenset[str]:
        """The model's statistics, and their counters, that no node reads: they don't move."""
        read = {operand.param for node in self._graph.nodes for operand in node.operands}
        unread = [p for p in self._graph.params if p not in read and not p.field.trainable]
        names = (name for p in unread for name in (self._layout.name(p), self._layout.counter(p)))
        return frozenset(name for name in names if name is not None)

    @cached_property
    def counters(self) -> dict[str, str]:
        """The canonical running mean whose movements each counter counts."""
        means = {
            self._layout.counter(param): tensor_name(param.pieces[0].tensor)
            for param in self._graph.params
            if param.field is Field.MEAN
        }
        return {counter: mean for counter, mean in means.items() if counter is not None}

    @cached_property
    def _params(self) -> dict[str, Param]:
        return {self._layout.name(param): param for param in self._graph.params}

    @cached_property
    def _canonical(self) -> dict[str, tuple[str, ...]]:
        return {
            name: tuple(
                dict.fromkeys(
                    tensor_name(piece.tensor) for pieces in param.holdings for piece in pieces
                )
            )
            for name, param in self._params.items()
        }
