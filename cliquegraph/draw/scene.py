"""Scenes, the representation of pictures before output: shapes, and arrows between them.

Units are points (1/72 inch), y upward. A scene without positions is laid out by Graphviz.
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
"""Length of an arrow's head: a path ends where the head starts."""

Point = tuple[float, float]
Path = tuple[Point, ...]
Data = dict[str, object]


class Look(StrEnum):
    """The kind of a shape, independent of its color."""

    INPUT = "input"  # X0
    LAYER = "layer"  # a feature
    KERNEL = "kernel"  # a use of a kernel
    PART = "part"  # a section of the network
    TEXT = "text"  # text without a frame, centered
    TITLE = "title"  # title of a part of the picture
    LEGEND = "legend"  # text of the legend, left-aligned, and the ends of its lines
    SIGN = "sign"  # on an arrow: its change in a comparison


class Stroke(StrEnum):
    """The kind of an arrow, distinguished by dashes and heads, not only by color."""

    FORWARD = "forward"  # from an earlier layer to a later one
    FEEDBACK = "feedback"  # from a later layer to an earlier one
    ENTRY = "entry"  # from X0
    ITSELF = "itself"  # from a layer's own last version
    VERSION = "version"  # from a feature to its next version
    FLOW = "flow"  # data flow
    LANE = "lane"  # from a feature to where it is read


class Change(StrEnum):
    """The change of an item in a comparison."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


SIGNS = {Change.ADDED: "+", Change.REMOVED: "−", Change.CHANGED: "≠"}


@dataclass(frozen=True)
class Shape:
    """A node of the picture.

    Attributes:
        key: its identity, the same in two scenes that are compared.
        label: its text.
        at: its center, if the scene is placed.
        size: width and height.
        color: of a kernel; None for the default of its look.
        data: facts for tools and the page.
        line: a name shared by shapes that the layout puts on a straight line.
    """

    key: str
    label: str
    look: Look
    at: Point = (0.0, 0.0)
    size: Point = (44, 26)
    color: str | None = None
    data: Data = field(default_factory=dict)
    line: str = ""
    change: Change | None = None


@dataclass(frozen=True)
class Arrow:
    """An arc of the picture.

    Attributes:
        key: its identity, the same in two scenes that are compared.
        tail, head: the keys of shapes.
        path: 3k + 1 control points of a Bézier curve, if the scene is placed.
        color, data: as for a shape.
        tip: whether it ends with a head.
        weight: extra width relative to its stroke, in points.
    """

    key: str
    tail: str
    head: str
    stroke: Stroke
    path: Path = ()
    color: str | None = None
    data: Data = field(default_factory=dict)
    tip: bool = True
    weight: float = 0.0
    change: Change | None = None


@dataclass(frozen=True)
class Scene:
    """A picture.

    Attributes:
        name: the name of the DOT graph.
        title: the line above it.
        placed: whether shapes and arrows have positions.
        ranks: for the layout: the keys of shapes to align vertically.
    """

    name: str
    title: str
    shapes: tuple[Shape, ...]
    arrows: tuple[Arrow, ...]
    placed: bool = True
    ranks: tuple[tuple[str, ...], ...] = ()


def unit_data(block: BlockSteps) -> Data:
    """Return the keys of a layer's unit, so that comparisons detect changes."""
    return dict(block.declared.words.unit_keys)


def text_size(text: str, points: float) -> Point:
    """Return an upper bound on the size of text in any sans-serif font."""
    lines = text.split("\n")
    return 0.56 * points * max(map(len, lines)) + points, 1.3 * points * len(lines) + 6


def straight(*points: Point) -> Path:
    """Return the control points of a line through points."""
    controls = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = (x1 - x0) / 3, (y1 - y0) / 3
        controls += [(x0 + dx, y0 + dy), (x1 - dx, y1 - dy), (x1, y1)]
    return tuple(controls)


def along(path: Path, t: float) -> Point:
    """Return the point of a Bézier curve at t, from 0 to k for 3k + 1 control points."""
    piece = min(int(t), len(path) // 3 - 1)
    t -= piece
    u = 1 - t
    weights = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
    points = path[3 * piece : 3 * piece + 4]
    x, y = (sum(w * p[axis] for w, p in zip(weights, points, strict=True)) for axis in (0, 1))
    return x, y


def sampled(path: Path, parts: int = 6) -> list[Point]:
    """Return points along a Bézier curve from start to end, ``parts`` for each piece."""
    return [along(path, i / parts) for i in range(parts * (len(path) // 3) + 1)] if path else []


def titled(scene: Scene, gap: float = 14.0) -> Scene:
    """Return a placed scene with its title as a shape, centered above it.

    For a label, Graphviz would use the metrics of the machine's fonts.
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
    """Return placed scenes as one, stacked vertically, each under its own title."""
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
    """The scene, translated."""
    return replace(
        scene,
        shapes=tuple(replace(s, at=(s.at[0] + dx, s.at[1] + dy)) for s in scene.shapes),
        arrows=tuple(replace(a, path=shifted(a.path, dx, dy)) for a in scene.arrows),
    )


def shifted(path: Path, dx: float, dy: float) -> Path:
    """Return the curve, translated."""
    return tuple((x + dx, y + dy) for x, y in path)


def extent(scene: Scene) -> tuple[float, float, float, float]:
    """Return the bounding box of a placed scene: left, bottom, right and top."""
    boxes = [(s.at, s.size) for s in scene.shapes]
    corners = [(x + i * w / 2, y + i * h / 2) for (x, y), (w, h) in boxes for i in (-1, 1)]
    # Sampled, since control points lie outside the curve.
    corners += [point for arrow in scene.arrows for point in sampled(arrow.path)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
