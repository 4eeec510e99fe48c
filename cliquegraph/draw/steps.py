"""The unrolled schedule as a diagram: a column for each step, a lane for each layer (Table 1).

A feature flows to the right along its layer's lane, and above it after it has been replaced.
Where a step reads it, the lane has a box with the kernel, in the kernel's color; the boxes of a
column lead to the layer that the step writes. Every reuse of a kernel is thus a box of the same
color and name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt

from cliquegraph.blocks.phrases import stage_numeral
from cliquegraph.draw.colors import FAINT, kernel_colors
from cliquegraph.draw.compare import merged
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
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Step

_COLUMN, _LANE, _BESIDE = 66.0, 60.0, 22.0
_FEATURE: Point = (50, 26)
_KERNEL: Point = (36, 18)
_SHAFTS, _SHAFT = (
    26.0,
    5.0,
)  # the width of a column's arrows on one side of a feature, and of each arrow

MAX_USES = 6000
"""Maximum number of kernel uses in one picture: more would be slow to draw and unreadable."""


def shown_steps(block: BlockSteps, stage: int | None = None) -> tuple[list[Step], str]:
    """Return the steps of a stage, up to the limit of a picture.

    The second value is a note on omitted steps, to be shown with the picture.
    """
    steps = [step for step in block.steps if stage in (None, step.stage)]
    count = sum(1 for uses in accumulate(len(step.reads) for step in steps) if uses <= MAX_USES)
    note = f"; the first {count} of {len(steps)} steps" if count < len(steps) else ""
    return steps[:count], note


def steps_scene(
    block: BlockSteps,
    stage: int | None = None,
    title: str = "",
    pair: Sequence[BlockSteps] = (),
) -> Scene:
    """Draw a block as its steps.

    Args:
        block: the unrolled block; its kernels have the same colors in every picture.
        stage: only its steps, and what they read; None for all.
        title: a line above.
        pair: the blocks of a comparison, including this one: their scenes have columns for the
            steps of both.
    """
    return _Steps(block, stage, pair or (block,)).scene(title)


_VALUE = "="
"""What a box says where a layer reads the value itself, without a kernel."""


class _Steps:
    def __init__(self, block: BlockSteps, stage: int | None, pair: Sequence[BlockSteps]) -> None:
        self._block = block
        self._steps, self._note = shown_steps(block, stage)
        self._colors = kernel_colors(block.edges)
        own = {Feature(block.index, 0, 0), *(step.writes for step in block.steps)}
        written = {step.writes for step in self._steps}
        before = set().union(*(_before(each, stage) for each in pair)) & own - written
        # Features that are read or replaced but not written here are on the left; each layer has
        # one such version.
        self._columns: dict[Feature, int] = dict.fromkeys(sorted(before), 0)
        both = [shown_steps(each, stage)[0] for each in pair]
        columns = merged(*([step.writes for step in steps] for steps in both))
        # The layers that a column reads in one of the scenes or the other.
        self._reads: dict[Feature, list[int]] = {feature: [] for feature in columns}
        for step in (step for steps in both for step in steps):
            layers = {*self._reads[step.writes], *(feature.layer for feature in step.reads)}
            self._reads[step.writes] = sorted(layers)
        places = {feature: i for i, feature in enumerate(columns, 1)}
        self._columns |= {step.writes: places[step.writes] for step in self._steps}

    def scene(self, title: str) -> Scene:
        note = self._note if title else ""
        features = {feature: self._feature(feature) for feature in self._columns}
        shapes = list(features.values())
        arrows = list(self._versions())
        ends = dict(features)
        newest = {f.layer: f for f, column in self._columns.items() if column == 0}
        for step in self._steps:
            column = self._columns[step.writes]
            for read in step.reads:
                edge = Edge(self._block.index, read.layer, step.layer)
                old = newest[read.layer] != read
                shape = self._use(column, step, read, edge, old=old)
                shapes.append(shape)
                # From box to box: the lane of a feature that several steps read.
                leaves = self._at(self._columns[newest[read.layer]], read.layer)[0] - _COLUMN / 2
                arrows.append(_lane(ends[read], shape, leaves))
                ends[read] = shape
                arrows.append(self._into(step, edge, shape))
            newest[step.layer] = step.writes
        shapes += self._words()
        return Scene(f"steps{self._block.index}", title + note, tuple(shapes), tuple(arrows))

    def _at(self, column: int, layer: int) -> Point:
        return column * _COLUMN, -layer * _LANE

    def _key(self, feature: Feature) -> str:
        return f"b{self._block.index}_{feature}"

    def _feature(self, feature: Feature) -> Shape:
        return Shape(
            self._key(feature),
            str(feature),
            Look.LAYER if feature.layer else Look.INPUT,
            self._at(self._columns[feature], feature.layer),
            _FEATURE,
            data={
                "block": feature.block,
                "layer": feature.layer,
                "stage": feature.stage,
                "feature": feature in self._block.feature,
                "transit": feature in self._block.transit,
                "unit": unit_data(self._block) if feature.layer else None,
            },
        )

    def _use(self, column: int, step: Step, read: Feature, edge: Edge, *, old: bool) -> Shape:
        x, y = self._at(column, read.layer)
        kernel = str(edge) if edge in self._colors else None
        return Shape(
            f"{self._key(step.writes)}_{edge}",
            kernel or _VALUE,
            Look.KERNEL,
            # A replaced feature continues above its lane, past its replacement.
            (x, y + _BESIDE if old else y),
            _KERNEL,
            self._colors.get(edge, FAINT),
            {
                "block": self._block.index,
                "kernel": kernel,
                "reads": str(read),
                "writes": str(step.writes),
                "stage": step.stage,
            },
        )

    def _into(self, step: Step, edge: Edge, use: Shape) -> Arrow:
        """An arrow from a box to the feature its column writes, next to the other arrows."""
        x, y = self._at(self._columns[step.writes], step.layer)
        sign = 1 if edge.source < edge.target else -1
        side = [each for each in self._reads[step.writes] if (each < edge.target) == (sign > 0)]
        place = side.index(edge.source) - (len(side) - 1) / 2
        aside = place * min(_SHAFT, _SHAFTS / max(1, len(side) - 1))
        rim = _FEATURE[1] / 2 * sqrt(1 - (2 * aside / _FEATURE[0]) ** 2)
        return Arrow(
            f"{use.key}_into",
            use.key,
            self._key(step.writes),
            Stroke.FLOW,
            straight((x + aside, use.at[1]), (x + aside, y + sign * (rim + HEAD))),
            self._colors.get(edge, FAINT),
            use.data,
        )

    def _versions(self) -> list[Arrow]:
        """Arrows from a feature to its next version, such as X2@1 to X2@2."""
        items = []
        newest: dict[int, Feature] = {}
        for feature, column in self._columns.items():
            if feature.layer in newest:
                old = newest[feature.layer]
                x, y = self._at(column, feature.layer)
                begin = self._at(self._columns[old], feature.layer)
                path = straight(begin, (x - _FEATURE[0] / 2 - HEAD, y))
                key = f"{self._key(feature)}_version"
                items.append(Arrow(key, self._key(old), self._key(feature), Stroke.VERSION, path))
            newest[feature.layer] = feature
        return items

    def _words(self) -> list[Shape]:
        """The labels of lanes, columns and stages."""
        key = f"b{self._block.index}_word"
        items = []
        stages: dict[int, list[int]] = {}
        numbers = {step.writes: number for number, step in enumerate(self._block.steps, 1)}
        for step in self._steps:
            column = self._columns[step.writes]
            x, y = self._at(column, 0)
            number = str(numbers[step.writes])
            items.append(_word(f"{key}_step_{step.writes}", number, (x, y + 30)))
            stages.setdefault(step.stage, []).append(column)
        for stage, columns in stages.items():
            x = (columns[0] + columns[-1]) / 2 * _COLUMN
            items.append(_word(f"{key}_stage{stage}", f"Stage {stage_numeral(stage)}", (x, 50)))
        for layer in sorted({feature.layer for feature in self._columns}):
            x, y = self._at(0, layer)
            items.append(_word(f"{key}_lane{layer}", f"layer {layer}", (x - 62, y)))
        return items


def _before(block: BlockSteps, stage: int | None) -> set[Feature]:
    """The features that the steps of a stage read but do not write, and those they replace."""
    steps, _ = shown_steps(block, stage)
    if not steps:
        return set()
    layers = {step.layer for step in steps}
    newest = {s.layer: s.writes for s in block.steps[: block.steps.index(steps[0])]}
    replaced = {feature for layer, feature in newest.items() if layer in layers}
    read = {feature for step in steps for feature in step.reads}
    return (read | replaced) - {step.writes for step in steps}


def _lane(since: Shape, use: Shape, leaves: float) -> Arrow:
    """A line from a feature, or the last box that read it, to the next box.

    If the box is above the lane, the line leaves the lane before the feature's replacement.
    """
    points = [since.at, use.at]
    if since.at[1] != use.at[1]:
        points[1:1] = [(leaves - 8, since.at[1]), (leaves, use.at[1])]
    path = straight(*points)
    return Arrow(f"{use.key}_lane", since.key, use.key, Stroke.LANE, path, data=use.data, tip=False)


def _word(key: str, text: str, at: Point) -> Shape:
    return Shape(key, text, Look.TEXT, at, text_size(text, 10))
