"""The clique as a loop: layers on a circle, X0 outside, an arrow for each kernel (Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi, sin

from cliquegraph.draw.colours import PALETTE
from cliquegraph.draw.scene import (
    HEAD,
    Arrow,
    Look,
    Point,
    Scene,
    Shape,
    Stroke,
    straight,
    text_size,
    unit_data,
)
from cliquegraph.emit.words import stage_numeral
from cliquegraph.steps.graph import BlockSteps, Edge

_NODE = 36.0  # diameter of a layer
_GAP = 128.0  # between two layers along the circle
_BOW = 0.09  # of an arrow's length, so that the two of a pair stand apart
_ROW = 20.0  # of the legend
_ROOM = 12.0  # between heads at the rim of a layer: more is no better
_DETOURS = (0.0, 0.1, -0.1, 0.18, -0.18, 0.26, -0.26)  # more bow, where a layer is in the way

_NAMES = {
    Stroke.ENTRY: "from X0",
    Stroke.FORWARD: "forward",
    Stroke.FEEDBACK: "feedback",
}

Path = tuple[Point, ...]
Group = tuple[Stroke, tuple[int, ...]]
"""Arrows that look alike: their kind, and the stages that use them."""

MAX_KERNELS = 2500
"""Arrows that one loop shows: more is neither drawn fast nor read."""


def loop_scene(
    block: BlockSteps,
    stage: int | None = None,
    title: str = "",
    circle: Sequence[int] | None = None,
) -> Scene:
    """Draw a block as its loop graph.

    Args:
        block: the unrolled block.
        stage: only the kernels that this stage uses; None for all.
        title: a line above.
        circle: the layers whose places the circle has; default: the block's, as visited.
    """
    return _Loop(block, stage, block.order if circle is None else circle).scene(title)


class _Loop:
    def __init__(self, block: BlockSteps, stage: int | None, circle: Sequence[int]) -> None:
        self._block = block
        used = [item for item in block.edges.items() if stage in (None, *item[1])]
        self._edges = dict(used[:MAX_KERNELS])
        self._left_out = len(used) - len(self._edges)
        self._circle = {layer: place for place, layer in enumerate(circle)}
        self._radius = max(96.0, _GAP * len(circle) / (2 * pi))
        # Numbered over all, so that a colour means the same in the picture of one stage.
        groups = sorted({self._group(edge) for edge in block.edges}, key=self._rank)
        self._ranked = groups
        shown = {self._group(edge) for edge in self._edges}
        self._groups: dict[Group, str] = {
            group: PALETTE[i % len(PALETTE)] for i, group in enumerate(groups) if group in shown
        }

    def scene(self, title: str) -> Scene:
        shapes = [self._layer(layer) for layer in (0, *self._block.order)]
        arrows = self._arrows()
        if self._left_out:
            count = len(self._edges)
            title += f"; the first {count:,} of {count + self._left_out:,} kernels"
        for row, group in enumerate(self._groups):
            legend_shapes, legend_arrow = self._legend(row, group)
            shapes += legend_shapes
            arrows.append(legend_arrow)
        return Scene(f"loop{self._block.index}", title, tuple(shapes), tuple(arrows))

    def _at(self, layer: int) -> Point:
        """X0 to the left, and the layers around from above it, in the order of visits."""
        if layer == 0:
            return -self._radius - 0.75 * _GAP, 0.0
        around = pi - (self._circle[layer] + 0.5) * 2 * pi / len(self._circle)
        return self._radius * cos(around), self._radius * sin(around)

    def _layer(self, layer: int) -> Shape:
        key = self._key(layer)
        block = self._block
        data: dict[str, object] = {
            "block": block.index,
            "layer": layer,
            "feature": [each.stage for each in block.feature if each.layer == layer],
            "transit": [each.stage for each in block.transit if each.layer == layer],
            "unit": unit_data(block) if layer else None,
        }
        look = Look.LAYER if layer else Look.INPUT
        return Shape(key, f"X{layer}", look, self._at(layer), (_NODE, _NODE), data=data)

    def _key(self, layer: int) -> str:
        return f"b{self._block.index}_x{layer}"

    def _stroke(self, edge: Edge) -> Stroke:
        if edge.source == 0:
            return Stroke.ENTRY
        visit = self._block.visit
        return Stroke.FORWARD if visit[edge.source] < visit[edge.target] else Stroke.FEEDBACK

    def _group(self, edge: Edge) -> Group:
        return self._stroke(edge), tuple(sorted(set(self._block.edges[edge])))

    @staticmethod
    def _rank(group: Group) -> tuple[int, tuple[int, ...]]:
        return list(_NAMES).index(group[0]), group[1]

    def _weight(self, group: Group) -> float:
        """Sets of stages differ in thickness too: not everybody tells their colours apart."""
        alike = [each for each in self._ranked if each[0] is group[0]]
        return 0.9 * alike.index(group)

    def _arrows(self) -> list[Arrow]:
        """Arrows from X0 last: they end where the others leave room."""
        paths: dict[Edge, Path] = {}
        rims: dict[int, list[Point]] = {layer: [] for layer in self._circle}
        for edge in sorted(self._edges, key=lambda edge: edge.source == 0):
            paths[edge] = self._path(edge, rims)
            for layer, rim in ((edge.source, paths[edge][0]), (edge.target, paths[edge][-1])):
                rims.setdefault(layer, []).append(rim)
        return [self._arrow(edge, stages, paths[edge]) for edge, stages in self._edges.items()]

    def _arrow(self, edge: Edge, stages: tuple[int, ...], path: Path) -> Arrow:
        stroke = self._stroke(edge)
        group = self._group(edge)
        return Arrow(
            f"b{self._block.index}_{edge}",
            self._key(edge.source),
            self._key(edge.target),
            stroke,
            path,
            self._groups[group],
            {"block": self._block.index, "kernel": str(edge), "stages": sorted(set(stages))},
            weight=self._weight(group),
        )

    def _path(self, edge: Edge, rims: Mapping[int, Sequence[Point]]) -> Path:
        """A curve between the rims of two layers that passes the others by.

        One from X0 has no partner to stand apart from; it ends away from what is at the rim.
        """
        others = [
            complex(*self._at(layer))
            for layer in (0, *self._circle)
            if layer not in (edge.source, edge.target)
        ]
        begin, end = complex(*self._at(edge.source)), complex(*self._at(edge.target))
        bow = 0.0 if edge.source == 0 else _BOW
        paths = [_curve(begin, end, bow + more) for more in _DETOURS]
        clear = [path for path in paths if _clears(path, others)] or paths[:1]
        found = clear[0]
        if edge.source == 0:
            taken = [complex(*point) for point in rims[edge.target]]

            def room(path: tuple[complex, ...]) -> float:
                return min((_ROOM, *(abs(path[-1] - point) for point in taken)))

            found = max(clear, key=room)  # the straightest of those with most room
        return tuple((point.real, point.imag) for point in found)

    def _legend(self, row: int, group: Group) -> tuple[list[Shape], Arrow]:
        stroke, stages = group
        left = -self._radius - 0.75 * _GAP - _NODE / 2
        y = -self._radius - _NODE - 24 - _ROW * row
        count = sum(1 for edge in self._edges if self._group(edge) == group)
        key = f"b{self._block.index}_legend{row}"
        words = ", ".join(stage_numeral(stage) for stage in stages)
        kernels, stage = ("kernel", "kernels")[count > 1], ("stage", "stages")[len(stages) > 1]
        text = f"{_NAMES[stroke]}: {count} {kernels}, {stage} {words}"
        width, _ = size = text_size(text, 10)
        begin, end = (left, y), (left + 42, y)
        shapes = [
            Shape(f"{key}_a", "", Look.TEXT, begin, (1, 1)),
            Shape(f"{key}_b", "", Look.TEXT, (left + 47, y), (1, 1)),
            Shape(f"{key}_text", text, Look.NOTE, (left + 56 + width / 2, y), size),
        ]
        arrow = Arrow(
            key,
            f"{key}_a",
            f"{key}_b",
            stroke,
            straight(begin, end),
            self._groups[group],
            weight=self._weight(group),
        )
        return shapes, arrow


def _curve(begin: complex, end: complex, bow: float) -> tuple[complex, ...]:
    """From rim to rim, bowed to its right by a part of its length."""
    along = (end - begin) / 3
    aside = -1j * (end - begin) * bow * 4 / 3
    leaves, arrives = along + aside, along - aside
    return (
        begin + leaves / abs(leaves) * _NODE / 2,
        begin + leaves,
        end - arrives,
        end - arrives / abs(arrives) * (_NODE / 2 + HEAD),
    )


def _clears(path: tuple[complex, ...], others: list[complex]) -> bool:
    a, b, c, d = path
    for step in range(1, 24):
        t = step / 24
        u = 1 - t
        at = u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d
        if any(abs(at - other) < _NODE / 2 + 3 for other in others):
            return False
    return True
