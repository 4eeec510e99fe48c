"""The unrolled schedule: a column for each step, a lane for each layer (Table 1, drawn).

A feature flows to the right along its layer's lane, and above it once it has been replaced.
Where a step reads it, the lane has a box with the kernel, in the kernel's own colour; the boxes
of a column go into the layer that the step writes. So every re-use of a kernel is a box of the
same colour and name.
"""

from __future__ import annotations

from collections.abc import Sequence

from cliquegraph.draw.colours import kernel_colour
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
from cliquegraph.steps.graph import BlockSteps, Edge, Feature, Step

_COLUMN, _LANE, _BESIDE = 66.0, 50.0, 22.0
_FEATURE: Point = (44, 26)
_KERNEL: Point = (36, 18)


def steps_scene(
    block: BlockSteps,
    steps: Sequence[Step] | None = None,
    title: str = "",
    columns: Sequence[Feature] | None = None,
) -> Scene:
    """Draw a block as its steps.

    Args:
        block: the unrolled block; its kernels have their colours in every picture of it.
        steps: only these, and what they read; None for all.
        title: a line above.
        columns: what is written in each column; default: what the steps write.
    """
    shown = block.steps if steps is None else steps
    written = [step.writes for step in shown] if columns is None else columns
    return _Steps(block, shown, written).scene(title)


class _Steps:
    def __init__(
        self, block: BlockSteps, steps: Sequence[Step], columns: Sequence[Feature]
    ) -> None:
        self._block = block
        self._steps = steps
        self._colours = {edge: kernel_colour(i) for i, edge in enumerate(block.edges)}
        written = {step.writes for step in self._steps}
        before = {read for step in self._steps for read in step.reads} - written
        before |= self._replaced()
        # What is read or replaced and not written here stands to the left; a layer has one such
        # version.
        self._columns: dict[Feature, int] = dict.fromkeys(sorted(before), 0)
        places = {feature: i for i, feature in enumerate(columns, 1)}
        self._columns |= {step.writes: places[step.writes] for step in self._steps}

    def _replaced(self) -> set[Feature]:
        """The versions before the first of the steps that these steps replace."""
        newest: dict[int, Feature] = {}
        layers = {step.layer for step in self._steps}
        for step in self._block.steps:
            if step == self._steps[0]:
                break
            newest[step.layer] = step.writes
        return {feature for layer, feature in newest.items() if layer in layers}

    def scene(self, title: str) -> Scene:
        features = {feature: self._feature(feature) for feature in self._columns}
        shapes = list(features.values())
        arrows = list(self._versions())
        ends = dict(features)
        newest = {f.layer: f for f, column in self._columns.items() if column == 0}
        for step in self._steps:
            column = self._columns[step.writes]
            for read, edge in zip(step.reads, step.weights, strict=True):
                old = newest[read.layer] != read
                shape = self._use(column, step, read, edge, old=old)
                shapes.append(shape)
                # From box to box: the lane of a feature that several steps read.
                leaves = self._at(self._columns[newest[read.layer]], read.layer)[0] - _COLUMN / 2
                arrows.append(_lane(ends[read], shape, leaves))
                arrows.append(self._into(step, edge, shape))
                ends[read] = shape
            newest[step.layer] = step.writes
        shapes += self._words()
        return Scene(f"steps{self._block.index}", title, tuple(shapes), tuple(arrows))

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
        return Shape(
            f"{self._key(step.writes)}_{edge}",
            str(edge),
            Look.KERNEL,
            # What was replaced flows on above its lane, past what replaced it.
            (x, y + _BESIDE if old else y),
            _KERNEL,
            self._colours[edge],
            {
                "block": self._block.index,
                "kernel": str(edge),
                "reads": str(read),
                "writes": str(step.writes),
                "stage": step.stage,
            },
        )

    def _into(self, step: Step, edge: Edge, use: Shape) -> Arrow:
        assert use.at is not None  # noqa: S101  # _use gives a place
        x, y = self._at(self._columns[step.writes], step.layer)
        rim = _FEATURE[1] / 2 + HEAD
        end = (x, y + rim if use.at[1] > y else y - rim)
        return Arrow(
            f"{use.key}_into",
            use.key,
            self._key(step.writes),
            Stroke.FLOW,
            straight(use.at, end),
            self._colours[edge],
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


def _lane(since: Shape, use: Shape, leaves: float) -> Arrow:
    """From a feature, or the last box that read it, to the next box.

    Where the box is above the lane, the line leaves the lane before what replaced the feature.
    """
    assert since.at is not None  # noqa: S101  # steps have places
    assert use.at is not None  # noqa: S101
    points = [since.at, use.at]
    if since.at[1] != use.at[1]:
        points[1:1] = [(leaves - 8, since.at[1]), (leaves, use.at[1])]
    path = straight(*points)
    return Arrow(f"{use.key}_lane", since.key, use.key, Stroke.LANE, path, data=use.data, tip=False)


def _word(key: str, text: str, at: Point) -> Shape:
    return Shape(key, text, Look.TEXT, at, text_size(text, 10))
