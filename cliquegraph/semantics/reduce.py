"""Smaller networks of the same structure, for an exact comparison in every compile."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cliquegraph.diagnostics.errors import SpecError, VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import AvgPool, Conv, Input, MaxPool, Types, Upsample
from cliquegraph.ir.shapes import ShapeError
from cliquegraph.ir.types import MapType, TensorType
from cliquegraph.semantics.exact import Candidate, Evidence, compare
from cliquegraph.semantics.structure import same_structure
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import SpecModel

_LEAST_WIDTHS = (2, 4, 8)
"""Widths for the narrowest layer; of a smaller one a compression may leave nothing."""


def compare_reduced(
    network: NetworkSpec, candidate: Candidate, build: Callable[[NetworkSpec], Candidate]
) -> Evidence:
    """Compare a declaration with an op graph on a smaller network of the same structure.

    If there is none, the graph itself is compared, on smaller images.

    Args:
        network: the declaration.
        candidate: its graph.
        build: builds the graph of another network in the same way.

    Raises:
        VerificationError: they differ; names the first place in the order of execution that does.
    """
    reduced = narrower(network, candidate.graph, lambda each: build(each).graph)
    if reduced is not None:
        try:
            return compare(reduced, build(reduced))
        except VerificationError:
            pass  # a kind may have widths under other keys, which were not reduced
    size = least_size(candidate.graph)
    unfolded = candidate.unfolded and resize(candidate.unfolded, *size)
    graph = resize(candidate.graph, *size)
    return compare(network, replace(candidate, graph=graph, unfolded=unfolded))


def narrower(
    network: NetworkSpec, graph: Graph, build: Callable[[NetworkSpec], Graph]
) -> NetworkSpec | None:
    """Return a narrower network whose graph has the same structure, if there is one."""
    for reduced in reductions(network, graph):
        try:
            small = build(reduced)
        except SpecError:  # it is too narrow for a compression
            continue
        return reduced if same_structure(graph, small) else None
    return None


def reductions(network: NetworkSpec, graph: Graph) -> Iterator[NetworkSpec]:
    """Yield networks of the same structure that are narrower, on smaller images.

    Args:
        network: the network.
        graph: its op graph.
    """
    sections = {
        name: getattr(network, name) for name in ("stem", "blocks", "transition", "readout")
    }
    keys = [key for section in sections.values() for key in _numbers(section)]
    widths = sorted({number for name, number in keys if name == _WIDTH})
    groups = sorted({1, *(number for name, number in keys if name == _GROUPS)})
    fewer = {number: 2**rank for rank, number in enumerate(groups)}  # each divides the next
    height, width = least_size(graph)
    channels = min(network.input.channels, 2)
    image = {"channels": channels, "height": height, "width": width}
    for least in _LEAST_WIDTHS:
        # Keep equal widths equal and the order of others, so that skips have the same shortcuts.
        # All are multiples of all numbers of groups.
        multiple = fewer[groups[-1]]
        narrow = {width: min(width, multiple * (least + rank)) for rank, width in enumerate(widths)}
        small = {_WIDTH: narrow, _GROUPS: fewer}
        classes = {"classes": min(network.classifier.classes, 3)}
        yield network.model_copy(
            update={
                "input": network.input.model_copy(update=image),
                "classifier": network.classifier.model_copy(update=classes),
                **{name: _replace(section, small) for name, section in sections.items()},
            }
        )


_WIDTH = "filters"
_GROUPS = "group_norm"


def _numbers(section: object) -> Iterator[tuple[str, int]]:
    """The integers of a section, with their keys, nested ones included."""
    if isinstance(section, tuple):
        for item in section:
            yield from _numbers(item)
    elif isinstance(section, SpecModel):
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, int) and not isinstance(value, bool):
                yield name, value
            else:
                yield from _numbers(value)


def _replace(section: Any, small: Mapping[str, Mapping[int, int]]) -> Any:
    """A section with other numbers under some keys, nested ones included."""
    if isinstance(section, tuple):
        return tuple(_replace(item, small) for item in section)
    if not isinstance(section, SpecModel):
        return section
    update: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name in small and isinstance(value, int):
            update[name] = small[name][value]
        else:
            update[name] = _replace(value, small)
    # Built anew, not copied: a copy would keep what the section has computed and remembered.
    return type(section).model_construct(**update)


def least_size(graph: Graph, least: int = 2) -> tuple[int, int]:
    """Return the smallest height and width of images that exercise every part of a graph.

    No map has fewer than ``least`` rows or columns, unless it does at the full size, and each tap
    of a kernel reads a pixel.
    """
    image = graph.input.type
    assert isinstance(image, MapType)  # noqa: S101  # inputs are maps
    full = {value: value.type for value in graph.producers}
    height, width = image.height, image.width

    def is_enough(side: int) -> bool:
        size = min(side, height), min(side, width)
        return _exercises_all(graph, full, size, least)

    sides = range(1, max(height, width))
    if any(isinstance(node.op, Upsample) for node in graph.nodes):
        # Of two sizes, the larger may be one whose upsampled maps don't meet maps of their size.
        side = next(filter(is_enough, sides), len(sides) + 1)
    else:
        side = bisect_left(sides, True, key=is_enough) + 1
    return min(side, height), min(side, width)


def _exercises_all(
    graph: Graph, full: Mapping[Value, TensorType], size: tuple[int, int], least: int
) -> bool:
    try:
        types = _types(graph, *size)
    except ShapeError:
        return False

    def is_large_enough(value: Value, needed: int) -> bool:
        whole, part = full[value], types[value]
        assert isinstance(whole, MapType) and isinstance(part, MapType)  # noqa: S101
        sides = ((whole.height, part.height), (whole.width, part.width))
        return all(small >= min(needed, large) for large, small in sides)

    for node in graph.nodes:
        if isinstance(node.op, Conv | MaxPool | AvgPool) and not is_large_enough(
            node.output, least
        ):
            return False
        if isinstance(node.op, Conv) and not is_large_enough(
            node.inputs[0], (node.op.kernel + 1) // 2
        ):
            return False
    return True


def resize(graph: Graph, height: int, width: int) -> Graph:
    """Return a graph on images of another size.

    Raises:
        ShapeError: a map is left with no pixels.
    """
    types = _types(graph, height, width)
    values = {value: Value(types[value], value.hint) for value in types}

    def resize_node(node: Node) -> Node:
        op = replace(node.op, height=height, width=width) if isinstance(node.op, Input) else node.op
        inputs = tuple(values[value] for value in node.inputs)
        outputs = tuple(values[value] for value in node.outputs)
        return replace(node, op=op, inputs=inputs, outputs=outputs)

    return replace(
        graph,
        nodes=tuple(map(resize_node, graph.nodes)),
        idle=tuple(map(resize_node, graph.idle)),
        logits=values[graph.logits],
        features=tuple(values[value] for value in graph.features),
    )


def _types(graph: Graph, height: int, width: int) -> dict[Value, TensorType]:
    """The types of all values on images of another size."""
    types: dict[Value, TensorType] = {}
    for node in (*graph.nodes, *graph.idle):
        if isinstance(node.op, Input):
            inferred: Types = (MapType(node.op.channels, height, width),)
        else:
            inferred = node.op.infer(tuple(types[value] for value in node.inputs))
        types |= zip(node.outputs, inferred, strict=True)
    return types
