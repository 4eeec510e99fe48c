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
Path = tuple[Point, ...]
Data = dict[str, object]


class Look(StrEnum):
    """What a shape is; not what colour it has."""

    INPUT = "input"  # X0
    LAYER = "layer"  # a feature
    KERNEL = "kernel"  # a use of a kernel
    PART = "part"  # a section of the network
    TEXT = "text"  # words without a frame, about their middle
    TITLE = "title"  # of a part of the picture
    LEGEND = "legend"  # words of the legend, from the left of their place, and its lines' ends
    SIGN = "sign"  # on an arrow: what a comparison says of it


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


SIGNS = {Change.ADDED: "+", Change.REMOVED: "−", Change.CHANGED: "≠"}


@dataclass(frozen=True)
class Shape:
    """A node of the picture.

    Attributes:
        key: what it is, the same in two scenes that are compared.
        label: its lines.
        at: its middle, where the scene is placed.
        size: width and height.
        colour: of a kernel; None for the look's own.
        data: what tools and the page are told about it.
        line: where it has no place: shapes of one line lie on a straight one.
    """

    key: str
    label: str
    look: Look
    at: Point = (0.0, 0.0)
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
        path: control points of a Bézier curve, 3k + 1, where the scene is placed.
        colour, data: as of a shape.
        tip: whether it ends with a head.
        weight: how much thicker it is than others of its stroke, in points.
    """

    key: str
    tail: str
    head: str
    stroke: Stroke
    path: Path = ()
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
    return dict(block.declared.words.unit_keys)


def text_size(text: str, points: float) -> Point:
    """Return the room that text takes in any sans-serif font."""
    lines = text.split("\n")
    return 0.56 * points * max(map(len, lines)) + points, 1.3 * points * len(lines) + 6


def straight(*points: Point) -> Path:
    """Return the control points of a line through points."""
    found = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = (x1 - x0) / 3, (y1 - y0) / 3
        found += [(x0 + dx, y0 + dy), (x1 - dx, y1 - dy), (x1, y1)]
    return tuple(found)


def along(path: Path, t: float) -> Point:
    """Return the point of a Bézier curve at t, which is 0 to k for 3k + 1 control points."""
    piece = min(int(t), len(path) // 3 - 1)
    t -= piece
    u = 1 - t
    weights = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
    points = path[3 * piece : 3 * piece + 4]
    x, y = (sum(w * p[axis] for w, p in zip(weights, points, strict=True)) for axis in (0, 1))
    return x, y


def sampled(path: Path, parts: int = 6) -> list[Point]:
    """Return points of a Bézier curve, from its first to its last, ``parts`` to each piece."""
    return [along(path, i / parts) for i in range(parts * (len(path) // 3) + 1)] if path else []


def titled(scene: Scene, gap: float = 14.0) -> Scene:
    """Return a placed scene with its title as a shape above its middle.

    Graphviz would make room for a label by the fonts of the machine.
    """
    if not scene.title:
        return scene
    left, _, right, high = extent(scene)
    _, height = size = text_size(scene.title, 12)
    at = ((left + right) / 2, high + gap + height / 2)
    return replace(
        scene,
        shapes=(Shape(f"{scene.name}_title", scene.title, Look.TITLE, at, size), *scene.shapes),
    )


def stacked(scenes: Sequence[Scene], name: str, title: str, gap: float = 40.0) -> Scene:
    """Return placed scenes as one, below each other and each under its own title."""
    shapes: list[Shape] = []
    arrows: list[Arrow] = []
    top = 0.0
    for scene in map(titled, scenes):
        left, low, right, high = extent(scene)
        there = _moved(scene, -(left + right) / 2, top - high)
        shapes += there.shapes
        arrows += there.arrows
        top -= high - low + gap
    return Scene(name, title, tuple(shapes), tuple(arrows))


def _moved(scene: Scene, dx: float, dy: float) -> Scene:
    """The same scene somewhere else."""
    return replace(
        scene,
        shapes=tuple(replace(s, at=(s.at[0] + dx, s.at[1] + dy)) for s in scene.shapes),
        arrows=tuple(replace(a, path=shifted(a.path, dx, dy)) for a in scene.arrows),
    )


def shifted(path: Path, dx: float, dy: float) -> Path:
    """Return the same curve somewhere else."""
    return tuple((x + dx, y + dy) for x, y in path)


def extent(scene: Scene) -> tuple[float, float, float, float]:
    """Return the left, lower, right and upper end of a placed scene: shapes and curves."""
    boxes = [(s.at, s.size) for s in scene.shapes]
    corners = [(x + i * w / 2, y + i * h / 2) for (x, y), (w, h) in boxes for i in (-1, 1)]
    # Control points lie farther out than a curve goes.
    corners += [point for arrow in scene.arrows for point in sampled(arrow.path)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
