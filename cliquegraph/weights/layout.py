"""Where a file or a live model keeps the tensors of a graph: their names and their axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import param_name, slot_name, tensor_name
from cliquegraph.ir.ops import BatchNorm
from cliquegraph.ir.storage import Array, misfits
from cliquegraph.ir.types import Field, Param
from cliquegraph.weights.source import FLOATS_ONLY, TensorInfo


class Layout(Protocol):
    """How a framework names and turns the parameters of a generated model."""

    def name(self, param: Param) -> str:
        """Return the name of a parameter in a file."""

    def axes(self, param: Param) -> tuple[int, ...]:
        """Return the canonical axis that each axis in the file is, ``(2, 3, 1, 0)`` for HWIO."""

    def counter(self, param: Param) -> str | None:
        """Return the name of the batch counter beside a running mean, if the framework has one.

        Nothing that a generated model computes depends on it.
        """


class CanonicalLayout:
    """The exchange format: canonical names, kernels OIHW, linear layers (out, in)."""

    def name(self, param: Param) -> str:
        """The canonical name."""
        return param_name(param)

    def axes(self, param: Param) -> tuple[int, ...]:
        """As they are."""
        return tuple(range(len(param.shape)))

    def counter(self, param: Param) -> str | None:
        """None: they travel in the metadata."""
        return None


@dataclass(frozen=True)
class Format:
    """A layout of one graph.

    Attributes:
        name: ``canonical``, ``official``, ``torchvision`` or a backend's.
        graph: the network as lowered for the first three; as the model was compiled for a backend.
        layout: names and axes.
        option: how the graph was asked for, ``-O1``; empty where there is no choice.
    """

    name: str
    graph: Graph = field(repr=False)
    layout: Layout = field(repr=False)
    option: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.option}".rstrip()

    @cached_property
    def params(self) -> dict[str, Param]:
        """The parameters by their names in a file."""
        return {self.layout.name(param): param for param in self.graph.params}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor in a file."""
        return {
            name: tuple(param.shape[axis] for axis in self.layout.axes(param))
            for name, param in self.params.items()
        }

    @cached_property
    def counters(self) -> dict[str, str]:
        """The names of batch counters in a file, with the normalisation that each is of."""
        means = (
            operand.param
            for node in (*self.graph.nodes, *self.graph.idle)
            if isinstance(node.op, BatchNorm)
            for operand in node.operands
            if operand.param.field is Field.MEAN
        )
        named = ((self.layout.counter(param), slot_name(param.slot)) for param in means)
        return {counter: slot for counter, slot in named if counter is not None}

    def fits(self, found: Mapping[str, TensorInfo]) -> bool:
        """Tell whether tensors are those of the format, by names and shapes."""
        return not self._misfits(found)

    def require(self, found: Mapping[str, TensorInfo], place: str) -> None:
        """Raise a ``WeightsError`` unless tensors are those of the format, all and no other.

        Args:
            found: the tensors by name; batch counters may be there or not.
            place: where they are, for the message.
        """
        if faults := self._misfits(found):
            raise WeightsError(f"{place} does not fit {self.graph.name} ({self}):\n{faults}")
        wrong = [
            f"{name} is {found[name].dtype}" for name in self.params if not found[name].is_float
        ]
        if wrong:
            raise WeightsError(f"{place}: {', '.join(wrong[:10])}; {FLOATS_ONLY}")

    def _misfits(self, found: Mapping[str, TensorInfo]) -> str:
        shapes = {name: each.shape for name, each in found.items() if name not in self.counters}
        return misfits(self.shapes, shapes, self._meanings)

    @cached_property
    def _meanings(self) -> dict[str, str]:
        """The canonical tensors that each name in a file stands for."""
        found = {}
        for name, param in self.params.items():
            first, *others = (tensor_name(piece.tensor) for piece in param.pieces)
            found[name] = f"{first} and {len(others)} more" if others else first
        return found


def turned(layout: Layout, param: Param, array: Array) -> Array:
    """Return what a file or a model holds for a parameter's canonical array; a view."""
    return np.transpose(array, layout.axes(param))


def canonical(layout: Layout, param: Param, array: Array) -> Array:
    """Return the canonical array of what a file or a model holds; ``turned`` undone."""
    return np.transpose(array, np.argsort(layout.axes(param)))
