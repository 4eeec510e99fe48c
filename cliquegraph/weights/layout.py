"""Layouts of a graph's tensors in a file or a live model: their names and axes."""

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
from cliquegraph.ir.types import Field, Param, Part
from cliquegraph.weights.source import FLOATS_ONLY, TensorInfo


class Layout(Protocol):
    """The names and axis orders of a generated model's parameters in a framework."""

    def name(self, param: Param) -> str:
        """Return the name of a parameter in a file."""

    def axes(self, param: Param) -> tuple[int, ...]:
        """Return the canonical axis of each axis in the file, such as ``(2, 3, 1, 0)`` for HWIO."""

    def counter(self, param: Param) -> str | None:
        """Return the name of the batch counter of a running mean, if the framework has one.

        The results of generated models do not depend on it.
        """


class CanonicalLayout:
    """The exchange format: canonical names, kernels OIHW, linear layers (out, in)."""

    def name(self, param: Param) -> str:
        """The canonical name."""
        return param_name(param)

    def axes(self, param: Param) -> tuple[int, ...]:
        """The canonical axes."""
        return tuple(range(len(param.shape)))

    def counter(self, param: Param) -> str | None:
        """None: counters are stored in the metadata."""
        return None


@dataclass(frozen=True)
class Format:
    """A layout of one graph.

    Attributes:
        name: ``canonical``, ``official``, ``torchvision`` or a backend's.
        graph: the network as lowered for the first three; the compiled graph for a backend.
        layout: names and axes.
        option: the option that selects the graph, ``-O1``; empty if there is no choice.
    """

    name: str
    graph: Graph = field(repr=False)
    layout: Layout = field(repr=False)
    option: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.option}".rstrip()

    @cached_property
    def params(self) -> dict[str, Param]:
        """The parameters, by their names in a file."""
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
        """The normalization of each batch counter in a file, by the counter's name."""
        means = (
            operand.param
            for node in (*self.graph.nodes, *self.graph.idle)
            if isinstance(node.op, BatchNorm)
            for operand in node.operands
            if operand.param.field is Field.MEAN
        )
        named = ((self.layout.counter(param), slot_name(param.slot)) for param in means)
        return {counter: slot for counter, slot in named if counter is not None}

    def fits(self, infos: Mapping[str, TensorInfo]) -> bool:
        """Return whether tensors match the format, by names and shapes."""
        return not self._misfits(infos)

    def require(self, infos: Mapping[str, TensorInfo], place: str) -> None:
        """Raise a ``WeightsError`` unless tensors match the format exactly.

        Args:
            infos: the tensors by name; batch counters are optional.
            place: their location, for the message.
        """
        if errors := self._misfits(infos):
            advice = self._advice(infos)
            raise WeightsError(
                f"{place} does not fit {self.graph.name} ({self}):\n{errors}{advice}"
            )
        wrong = [
            f"{name} is {infos[name].dtype}" for name in self.params if not infos[name].is_float
        ]
        if wrong:
            raise WeightsError(f"{place}: {', '.join(wrong[:10])}; {FLOATS_ONLY}")

    def matching(self, infos: Mapping[str, TensorInfo]) -> int:
        """Return how many tensors have a name and a shape of the format."""
        return sum(
            name in infos and infos[name].shape == shape for name, shape in self.shapes.items()
        )

    def _advice(self, infos: Mapping[str, TensorInfo]) -> str:
        """What to do where the number of classes is all that differs."""
        head = {
            name: param
            for name, param in self.params.items()
            if param.slot.section.part is Part.CLASSIFIER
        }
        rest = {name: shape for name, shape in self.shapes.items() if name not in head}
        shapes = {n: each.shape for n, each in infos.items() if n not in {*head, *self.counters}}
        if misfits(rest, shapes) or not head.keys() <= infos.keys():
            return ""
        classes = {
            infos[name].shape[self.layout.axes(param).index(0)]
            for name, param in head.items()
            if len(infos[name].shape) == len(param.shape)
        }
        if len(classes) != 1:
            return ""
        return (
            f"\n  only the number of classes differs: --set classifier.classes={classes.pop()} "
            "reads it; load_weights(..., head='skip') and train --init leave out the classifier"
        )

    def _misfits(self, infos: Mapping[str, TensorInfo]) -> str:
        shapes = {name: each.shape for name, each in infos.items() if name not in self.counters}
        return misfits(self.shapes, shapes, self._meanings)

    @cached_property
    def _meanings(self) -> dict[str, str]:
        """The canonical tensors behind each name in a file."""
        meanings = {}
        for name, param in self.params.items():
            first, *others = (tensor_name(piece.tensor) for piece in param.pieces)
            meanings[name] = f"{first} and {len(others)} more" if others else first
        return meanings


def to_layout(layout: Layout, param: Param, array: Array) -> Array:
    """Return a view of a parameter's canonical array with the axes of a layout."""
    return np.transpose(array, layout.axes(param))


turned = to_layout  # the old name


def canonical(layout: Layout, param: Param, array: Array) -> Array:
    """Return a view of an array with canonical axes; the inverse of ``to_layout``."""
    return np.transpose(array, np.argsort(layout.axes(param)))
