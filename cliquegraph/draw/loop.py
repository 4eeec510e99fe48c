"""A block as a loop: layers on a circle, X0 outside, an arrow for each read (Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import cos, pi, sin

from cliquegraph.blocks.phrases import stage_numeral
from cliquegraph.draw.colors import FAINT, PALETTE
from cliquegraph.draw.compare import merged
from cliquegraph.draw.routes import NODE, routes
from cliquegraph.draw.scene import (
    Arrow,
    Look,
    Point,
    Scene,
    Shape,
    Stroke,
    sampled,
    straight,
    text_size,
    unit_data,
)
from cliquegraph.steps.graph import BlockSteps, Edge

_GAP = 128.0  # distance between layers along the circle
_ROW = 20.0  # row height of the legend

_NAMES = {
    Stroke.ENTRY: "from X0",
    Stroke.FORWARD: "forward",
    Stroke.FEEDBACK: "feedback",
    Stroke.ITSELF: "from itself",
}

Group = tuple[Stroke, bool, tuple[int, ...]]
"""Arrows that look the same: their kind, whether they have kernels, the stages that use them."""

MAX_ARROWS = 2500
"""Maximum number of arrows in one loop: more would be slow to draw and unreadable."""


def loop_scene(
    block: BlockSteps,
    stage: int | None = None,
    title: str = "",
    pair: Sequence[BlockSteps] = (),
) -> Scene:
    """Draw a block as its loop graph.

    Args:
        block: the unrolled block.
        stage: only the kernels that this stage uses; None for all.
        title: a line above.
        pair: the blocks of a comparison, including this one: their scenes share the circle, the
            routes of arrows, and the legend.
    """
    return _Loop(block, stage, pair or (block,)).scene(title)


class _Loop:
    def __init__(self, block: BlockSteps, stage: int | None, pair: Sequence[BlockSteps]) -> None:
        self._block = block
        self._pair = pair
        self._shown = [_shown(each, stage) for each in pair]
        self._edges = _shown(block, stage)
        used = sum(1 for stages in _reads(block).values() if stage in (None, *stages))
        self._left_out = used - len(self._edges)
        circle = merged(*(each.order for each in pair))
        self._circle = {layer: place for place, layer in enumerate(circle)}
        self._radius = max(96.0, _GAP * len(circle) / (2 * pi))
        # Assigned over all stages, so that colors are the same in the picture of one stage.
        self._ranked = sorted({_group(b, e) for b in pair for e in _reads(b)}, key=_rank)
        by_kernel = [group for group in self._ranked if group[1]]
        self._colors = dict.fromkeys(self._ranked, FAINT)
        self._colors |= {group: PALETTE[i % len(PALETTE)] for i, group in enumerate(by_kernel)}
        ends = {(edge.source, edge.target) for shown in self._shown for edge in shown}
        self._paths = routes({layer: self._at(layer) for layer in (0, *circle)}, sorted(ends))

    def scene(self, title: str) -> Scene:
        shapes = [self._layer(layer) for layer in (0, *self._block.order)]
        arrows = [self._arrow(edge, stages) for edge, stages in self._edges.items()]
        if self._left_out:
            count = len(self._edges)
            title += f"; the first {count:,} of {count + self._left_out:,} reads"
        counts = [
            [sum(_group(block, edge) == group for edge in shown) for group in self._ranked]
            for block, shown in zip(self._pair, self._shown, strict=True)
        ]
        rows = [(group, each) for group, *each in zip(self._ranked, *counts, strict=True)]
        for row, (group, each) in enumerate(row for row in rows if any(row[1])):
            legend_shapes, legend_arrow = self._legend(row, group, each)
            shapes += legend_shapes
            arrows.append(legend_arrow)
        return Scene(f"loop{self._block.index}", title, tuple(shapes), tuple(arrows))

    def _at(self, layer: int) -> Point:
        """Position of a layer: X0 on the left, the others clockwise in the order of visits."""
        if layer == 0:
            return -self._radius - 0.75 * _GAP, 0.0
        around = pi - (self._circle[layer] + 0.5) * 2 * pi / len(self._circle)
        return self._radius * cos(around), self._radius * sin(around)

    def _layer(self, layer: int) -> Shape:
        block = self._block
        data: dict[str, object] = {
            "block": block.index,
            "layer": layer,
            "feature": [each.stage for each in block.feature if each.layer == layer],
            "transit": [each.stage for each in block.transit if each.layer == layer],
            "unit": unit_data(block) if layer else None,
        }
        look = Look.LAYER if layer else Look.INPUT
        key = self._key(layer)
        name = block.declared.layer(layer).label if layer else None
        label = f"X{layer}\n{name}" if name else f"X{layer}"
        return Shape(key, label, look, self._at(layer), (NODE, NODE), data=data)

    def _key(self, layer: int) -> str:
        return f"b{self._block.index}_x{layer}"

    def _weight(self, group: Group) -> float:
        """Extra width by set of stages, since colors alone may be hard to distinguish."""
        alike = [each for each in self._ranked if each[:2] == group[:2]]
        return 0.9 * alike.index(group)

    def _arrow(self, edge: Edge, stages: tuple[int, ...]) -> Arrow:
        group = _group(self._block, edge)
        return Arrow(
            f"b{self._block.index}_{edge}",
            self._key(edge.source),
            self._key(edge.target),
            group[0],
            self._paths[edge.source, edge.target],
            self._colors[group],
            {
                "block": self._block.index,
                "kernel" if group[1] else "value": str(edge) if group[1] else _value(edge),
                "stages": sorted(set(stages)),
            },
            weight=self._weight(group),
        )

    def _legend(self, row: int, group: Group, counts: Sequence[int]) -> tuple[list[Shape], Arrow]:
        stroke, by_kernel, stages = group
        left = -self._radius - 0.75 * _GAP - NODE / 2
        lowest = (y for path in self._paths.values() for _, y in sampled(path))
        y = min(-self._radius - NODE / 2, *lowest) - 30 - _ROW * row
        key = f"b{self._block.index}_legend{row}"
        words = ", ".join(stage_numeral(stage) for stage in stages)
        what = ("kernel" if by_kernel else "value") + "s" * (max(counts) > 1)
        stage = ("stage", "stages")[len(stages) > 1]
        count = " → ".join(dict.fromkeys(map(str, counts)))
        text = f"{_NAMES[stroke]}: {count} {what}, {stage} {words}"
        width, _ = size = text_size(text, 10)
        begin, end = (left, y), (left + 42, y)
        shapes = [
            Shape(f"{key}_a", "", Look.LEGEND, begin, (1, 1)),
            Shape(f"{key}_b", "", Look.LEGEND, (left + 47, y), (1, 1)),
            Shape(f"{key}_text", text, Look.LEGEND, (left + 56 + width / 2, y), size),
        ]
        arrow = Arrow(
            key,
            f"{key}_a",
            f"{key}_b",
            stroke,
            straight(begin, end),
            self._colors[group],
            {"label": text},
            weight=self._weight(group),
        )
        return shapes, arrow


def _reads(block: BlockSteps) -> dict[Edge, tuple[int, ...]]:
    """The pairs that are read, with the stages: through kernels first, then as values."""
    values = {Edge(block.index, *pair): stages for pair, stages in block.values.items()}
    return {**block.edges, **values}


def _value(edge: Edge) -> str:
    return f"X{edge.source} → X{edge.target}"


def _shown(block: BlockSteps, stage: int | None) -> dict[Edge, tuple[int, ...]]:
    used = (item for item in _reads(block).items() if stage in (None, *item[1]))
    return dict(islice(used, MAX_ARROWS))


def _group(block: BlockSteps, edge: Edge) -> Group:
    by_kernel = edge in block.edges
    stages = tuple(sorted(set(_reads(block)[edge])))
    if edge.source == 0:
        return Stroke.ENTRY, by_kernel, stages
    if edge.source == edge.target:
        return Stroke.ITSELF, by_kernel, stages
    forward = block.visit[edge.source] < block.visit[edge.target]
    return Stroke.FORWARD if forward else Stroke.FEEDBACK, by_kernel, stages


def _rank(group: Group) -> tuple[int, bool, tuple[int, ...]]:
    return list(_NAMES).index(group[0]), not group[1], group[2]
