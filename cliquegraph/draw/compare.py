"""Two scenes as one, with what was added, removed and changed marked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from cliquegraph.draw.scene import Arrow, Change, Look, Point, Scene, Shape, extent

_WORDS = (Look.TEXT, Look.NOTE, Look.TITLE)
_KEY = "thick and green, +: added; thick, dashed and red, −: removed; thick and brown, ≠: changed"

Item = TypeVar("Item", Shape, Arrow)


def compared(left: Scene, right: Scene) -> Scene:
    """Return the right scene with what only the left one has, each item marked.

    Things stand where the larger of the two has them. Words are those of the right one.
    """
    words = {shape.key for scene in (left, right) for shape in scene.shapes if shape.look in _WORDS}
    shapes = _marked(left.shapes, right.shapes, words)
    # The arrows of the legend are words too.
    legend = {arrow.key for scene in (left, right) for arrow in scene.arrows if arrow.tail in words}
    arrows = _marked(left.arrows, right.arrows, legend)
    merged = replace(
        right,
        title="\n".join(filter(None, (_titles(left, right), _KEY))),
        shapes=tuple(shapes),
        arrows=tuple(arrows),
        ranks=tuple(dict.fromkeys((*left.ranks, *right.ranks))),
    )
    return _settled(merged, left, right, words) if right.placed else merged


def _titles(left: Scene, right: Scene) -> str:
    """Both titles; several blocks have one each, below."""
    return f"{left.title}  →  {right.title}" if left.title and right.title else ""


def _marked(left: tuple[Item, ...], right: tuple[Item, ...], words: set[str]) -> list[Item]:
    """The items of both, those of the right one first."""
    before = {item.key: item for item in left}
    after = {item.key: item for item in right}
    found = []
    for key, item in after.items():
        if key in words:
            found.append(item)
        elif key not in before:
            found.append(replace(item, change=Change.ADDED))
        elif _content(before[key]) != _content(item):
            found.append(replace(item, change=Change.CHANGED))
        else:
            found.append(item)
    gone = [item for key, item in before.items() if key not in after and key not in words]
    return found + [replace(item, change=Change.REMOVED) for item in gone]


def _content(item: Shape | Arrow) -> object:
    """What an item says; where it stands and its colour are no part of that."""
    if isinstance(item, Shape):
        return item.label, item.data
    return item.tail, item.head, item.stroke, item.data


# ---- where things stand ------------------------------------------------------------------


def _settled(merged: Scene, left: Scene, right: Scene, words: set[str]) -> Scene:
    """The scene with the places of the larger one."""
    larger = left if len(left.shapes) > len(right.shapes) else right
    places = {s.key: s.at for s in (*left.shapes, *right.shapes, *larger.shapes) if s.at}
    if larger is left:
        dx, dy = _apart(left, right)
        # Words keep their distance to what they stand below.
        places |= {
            s.key: (s.at[0] + dx, s.at[1] + dy) for s in right.shapes if s.key in words and s.at
        }
    own = {a.key: (a, scene) for scene in (left, right, larger) for a in scene.arrows}
    own |= {a.key: (a, right) for a in right.arrows if a.tail in words}
    return replace(
        merged,
        shapes=tuple(replace(shape, at=places[shape.key]) for shape in merged.shapes),
        arrows=tuple(
            replace(arrow, path=_carried(*own[arrow.key], places)) for arrow in merged.arrows
        ),
    )


def _apart(larger: Scene, other: Scene) -> Point:
    """How far the lower left corner of one scene's things is from another's."""
    corners = [
        extent(shape for shape in scene.shapes if shape.look not in _WORDS)
        for scene in (larger, other)
    ]
    (left, low, _, _), (other_left, other_low, _, _) = corners
    return left - other_left, low - other_low


def _carried(arrow: Arrow, scene: Scene, places: Mapping[str, Point]) -> tuple[Point, ...] | None:
    """An arrow's path where its ends stand elsewhere: turned and stretched with them."""
    if arrow.path is None:
        return None
    at = {shape.key: shape.at for shape in scene.shapes if shape.at}
    tail, head = complex(*at[arrow.tail]), complex(*at[arrow.head])
    new_tail, new_head = complex(*places[arrow.tail]), complex(*places[arrow.head])
    stretch = (new_head - new_tail) / (head - tail)
    points = (new_tail + (complex(*point) - tail) * stretch for point in arrow.path)
    return tuple((point.real, point.imag) for point in points)
