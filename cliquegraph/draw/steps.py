"""The unrolled schedule: a column for each step, a lane for each layer (Table 1, drawn).

A feature flows to the right along its layer's lane, and above it once it has been replaced.
Where a step reads it, the lane has a box with the kernel, in the kernel's own colour; the boxes
of a column go into the layer that the step writes. So every re-use of a kernel is a box of the
same colour and name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt

from cliquegraph.blocks.phrases import stage_numeral
from cliquegraph.draw.colours import FAINT, kernel_colours
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
_SHAFTS, _SHAFT = 26.0, 5.0  # the room of a column's arrows on one side of a feature, of each

MAX_USES = 6000
"""Uses of kernels that one picture of steps shows: more is neither drawn fast nor read."""


def shown_steps(block: BlockSteps, stage: int | None = None) -> tuple[list[Step], str]:
    """Return the steps of a stage, and no more than a picture shows.

    The second value says what was left out: whoever looks at the picture must know.
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
        block: the unrolled block; its kernels have their colours in every picture of it.
        stage: only its steps, and what they read; None for all.
        title: a line above.
        pair: the blocks of a comparison, of which this is one: their scenes have columns for the
            steps of both.
    """
    return _Steps(block, stage, pair or (block,)).scene(title)


_VALUE = "="
"""What a box says where a layer reads the value itself, without a kernel."""


class _Steps:
    def __init__(self, block: BlockSteps, stage: int | None, pair: Sequence[BlockSteps]) -> None:
        self._block = block
        self._steps, self._note = shown_steps(block, stage)
        self._colours = kernel_colours(block.edges)
        own = {Feature(block.index, 0, 0), *(step.writes for step in block.steps)}
        written = {step.writes for step in self._steps}
        before = set().union(*(_before(each, stage) for each in pair)) & own - written
        # What is read or replaced and not written here stands to the left; a layer has one such
        # version.
        self._columns: dict[Feature, int] = dict.fromkeys(sorted(before), 0)
        both = [shown_steps(each, stage)[0] for each in pair]
        columns = merged(*([step.writes for step in steps] for steps in both))
        # The layers that a column reads in one of the scenes or the other.
        self._reads: dict[Feature, list[int]] = {feature: [] for feature in columns}
        for step in (step for steps in both for step in steps):
            found = {*self._reads[step.writes], *(feature.layer for feature in step.reads)}
            self._reads[step.writes] = sorted(found)
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
        kernel = str(edge) if edge in self._colours else None
        return Shape(
            f"{self._key(step.writes)}_{edge}",
            kernel or _VALUE,
            Look.KERNEL,
            # What was replaced flows on above its lane, past what replaced it.
            (x, y + _BESIDE if old else y),
            _KERNEL,
            self._colours.get(edge, FAINT),
            {
                "block": self._block.index,
                "kernel": kernel,
                "reads": str(read),
                "writes": str(step.writes),
                "stage": step.stage,
            },
        )

    def _into(self, step: Step, edge: Edge, use: Shape) -> Arrow:
        """From a box into what its column writes, beside the others: each has its colour."""
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
            self._colours.get(edge, FAINT),
            use.data,
        )

    def _versions(self) -> list[Arrow]:
        """X2@1 to X2@2: what an update replaces."""
        found = []
        newest: dict[int, Feature] = {}
        for feature, column in self._columns.items():
            if feature.layer in newest:
                old = newest[feature.layer]
                x, y = self._at(column, feature.layer)
                begin = self._at(self._columns[old], feature.layer)
                path = straight(begin, (x - _FEATURE[0] / 2 - HEAD, y))
                key = f"{self._key(feature)}_version"
                found.append(Arrow(key, self._key(old), self._key(feature), Stroke.VERSION, path))
            newest[feature.layer] = feature
        return found

    def _words(self) -> list[Shape]:
        """The names of lanes and columns, and the stage above its first column."""
        key = f"b{self._block.index}_word"
        found = []
        stages: dict[int, list[int]] = {}
        numbers = {step.writes: number for number, step in enumerate(self._block.steps, 1)}
        for step in self._steps:
            column = self._columns[step.writes]
            x, y = self._at(column, 0)
            number = str(numbers[step.writes])
            found.append(_word(f"{key}_step_{step.writes}", number, (x, y + 30)))
            stages.setdefault(step.stage, []).append(column)
        for stage, columns in stages.items():
            x = (columns[0] + columns[-1]) / 2 * _COLUMN
            found.append(_word(f"{key}_stage{stage}", f"Stage {stage_numeral(stage)}", (x, 50)))
        for layer in sorted({feature.layer for feature in self._columns}):
            x, y = self._at(0, layer)
            found.append(_word(f"{key}_lane{layer}", f"layer {layer}", (x - 62, y)))
        return found


def _before(block: BlockSteps, stage: int | None) -> set[Feature]:
    """What the steps of a stage read and do not write, and what they replace."""
    steps, _ = shown_steps(block, stage)
    if not steps:
        return set()
    layers = {step.layer for step in steps}
    newest = {s.layer: s.writes for s in block.steps[: block.steps.index(steps[0])]}
    replaced = {feature for layer, feature in newest.items() if layer in layers}
    read = {feature for step in steps for feature in step.reads}
    return (read | replaced) - {step.writes for step in steps}


def _lane(since: Shape, use: Shape, leaves: float) -> Arrow:
    """From a feature, or the last box that read it, to the next box.

    Where the box is above the lane, the line leaves the lane before what replaced the feature.
    """
    points = [since.at, use.at]
    if since.at[1] != use.at[1]:
        points[1:1] = [(leaves - 8, since.at[1]), (leaves, use.at[1])]
    path = straight(*points)
    return Arrow(f"{use.key}_lane", since.key, use.key, Stroke.LANE, path, data=use.data, tip=False)


def _word(key: str, text: str, at: Point) -> Shape:
    return Shape(key, text, Look.TEXT, at, text_size(text, 10))
