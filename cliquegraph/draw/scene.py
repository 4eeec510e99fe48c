"""What a picture holds, before it is written down: shapes with places, arrows between them.

Units are points (1/72 inch), y upwards. A scene without places is laid out by Graphviz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cliquegraph.steps.graph import BlockSteps

HEAD = 7.0
"""Length of an arrow's head: a path ends where the head begins."""

Point = tuple[float, float]
Data = dict[str, object]


class Look(StrEnum):
    """What a shape is; not what colour it has."""

    INPUT = "input"  # X0
    LAYER = "layer"  # a feature
    KERNEL = "kernel"  # a use of a kernel
    PART = "part"  # a section of the network
    TEXT = "text"  # words without a frame, about their middle
    TITLE = "title"  # of a part of the picture
    NOTE = "note"  # words that begin at the left of their place


class Stroke(StrEnum):
    """What an arrow is; told apart by dashes and heads, not by colour alone."""

    FORWARD = "forward"  # from an earlier layer to a later one
    FEEDBACK = "feedback"  # from a later layer to an earlier one
    ENTRY = "entry"  # from X0
    VERSION = "version"  # from a feature to its next version
    FLOW = "flow"  # of data
    LANE = "lane"  # from a feature to where it is read


class Change(StrEnum):
    """What a comparison says of an item."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class Shape:
    """A node of the picture.

    Attributes:
        key: what it is, the same in two scenes that are compared.
        label: its lines.
        at: its middle.
        size: width and height.
        colour: of a kernel; None for the look's own.
        data: what tools and the page are told about it.
        line: where it has no place: shapes of one line lie on a straight one.
    """

    key: str
    label: str
    look: Look
    at: Point | None = None
    size: Point = (44, 26)
    colour: str | None = None
    data: Data = field(default_factory=dict)
    line: str = ""
    change: Change | None = None


@dataclass(frozen=True)
class Arrow:
    """An arc of the picture.

    Attributes:
        key: what it is, the same in two scenes that are compared.
        tail, head: the keys of shapes.
        path: control points of a Bézier curve, 3k + 1; None where Graphviz draws it.
        colour, data: as of a shape.
        tip: whether it ends with a head.
        weight: how much thicker it is than others of its stroke, in points.
    """

    key: str
    tail: str
    head: str
    stroke: Stroke
    path: tuple[Point, ...] | None = None
    colour: str | None = None
    data: Data = field(default_factory=dict)
    tip: bool = True
    weight: float = 0.0
    change: Change | None = None


@dataclass(frozen=True)
class Scene:
    """A picture.

    Attributes:
        name: of the DOT graph.
        title: the line above it.
        placed: whether shapes and arrows have their places.
        ranks: where they have none: the keys of shapes that stand above one another.
    """

    name: str
    title: str
    shapes: tuple[Shape, ...]
    arrows: tuple[Arrow, ...]
    placed: bool = True
    ranks: tuple[tuple[str, ...], ...] = ()


def unit_data(block: BlockSteps) -> Data:
    """Return what a layer's unit is, so that comparisons see where it is another one."""
    keys = ("filters", "kernel", "unit", "bottleneck", "dropout", "norm_per_stage")
    return {key: getattr(block.spec, key) for key in keys if hasattr(block.spec, key)}


def text_size(text: str, points: float) -> Point:
    """Return the room that text takes in any sans-serif font, generously."""
    lines = text.split("\n")
    return 0.62 * points * max(map(len, lines)) + points, 1.3 * points * len(lines) + 6


def straight(*points: Point) -> tuple[Point, ...]:
    """Return the control points of a line through points."""
    found = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = (x1 - x0) / 3, (y1 - y0) / 3
        found += [(x0 + dx, y0 + dy), (x1 - dx, y1 - dy), (x1, y1)]
    return tuple(found)


def titled(scene: Scene, gap: float = 14.0) -> Scene:
    """Return a placed scene with its title as a shape above it.

    Graphviz would make room for a label by the fonts of the machine.
    """
    if not scene.title:
        return scene
    left, _, right, high = extent(scene)
    width, height = size = text_size(scene.title, 13)
    at = (max((left + right) / 2, left + width / 2), high + gap + height / 2)
    return replace(
        scene,
        shapes=(Shape(f"{scene.name}_title", scene.title, Look.TITLE, at, size), *scene.shapes),
    )


def stacked(scenes: Sequence[Scene], name: str, gap: float = 40.0) -> Scene:
    """Return placed scenes as one, below each other and each under its own title."""
    shapes: list[Shape] = []
    arrows: list[Arrow] = []
    top = 0.0
    for scene in map(titled, scenes):
        left, low, _, high = extent(scene)
        there = _moved(scene, -left, top - high)
        shapes += there.shapes
        arrows += there.arrows
        top -= high - low + gap
    return Scene(name, "", tuple(shapes), tuple(arrows))


def _moved(scene: Scene, dx: float, dy: float) -> Scene:
    """The same scene somewhere else."""

    def shift(point: Point) -> Point:
        return point[0] + dx, point[1] + dy

    return replace(
        scene,
        shapes=tuple(replace(s, at=None if s.at is None else shift(s.at)) for s in scene.shapes),
        arrows=tuple(
            replace(a, path=None if a.path is None else tuple(map(shift, a.path)))
            for a in scene.arrows
        ),
    )


def extent(scene: Scene) -> tuple[float, float, float, float]:
    """Return the left, lower, right and upper end of what has a place: shapes and curves."""
    boxes = [(s.at, s.size) for s in scene.shapes if s.at is not None]
    corners = [(x + i * w / 2, y + i * h / 2) for (x, y), (w, h) in boxes for i in (-1, 1)]
    corners += [point for arrow in scene.arrows for point in _sampled(arrow.path or ())]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _sampled(path: tuple[Point, ...]) -> list[Point]:
    """Points of a Bézier curve: its control points lie farther out than it goes."""
    found = []
    for start in range(0, len(path) - 1, 3):
        a, b, c, d = (complex(*point) for point in path[start : start + 4])
        for t in (0.2, 0.35, 0.5, 0.65, 0.8):
            u = 1 - t
            z = u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d
            found.append((z.real, z.imag))
    return found
