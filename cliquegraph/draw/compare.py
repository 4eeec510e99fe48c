"""Two scenes as one, with what was added, removed and changed marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from cliquegraph.draw.scene import Arrow, Change, Look, Point, Scene, Shape, Stroke

_WORDS = (Look.TEXT, Look.NOTE, Look.TITLE)
_ALONE = (Stroke.FORWARD, Stroke.FEEDBACK, Stroke.ENTRY)  # nothing beside them says their change
_SIGNS = {Change.ADDED: "+", Change.REMOVED: "−", Change.CHANGED: "≠"}
_SIGN = 12.0  # its width and height, in points
_PLACES = (0.4, 0.33, 0.47, 0.27, 0.54, 0.6, 0.67, 0.2, 0.74)  # along an arrow, the best first

_KEY = {
    Change.ADDED: "thick and green, +: added",
    Change.REMOVED: "thick, dashed and red, −: removed",
    Change.CHANGED: "thick and brown, ≠: changed",
}
SAME = "no difference in this view"

Item = TypeVar("Item", Shape, Arrow)
Name = TypeVar("Name")


def merged(left: Iterable[Name], right: Iterable[Name]) -> tuple[Name, ...]:
    """Return the right names in their order, and those of the left alone after what they follow."""
    found = list(right)
    before: Name | None = None
    for name in left:
        if name not in found:
            found.insert(found.index(before) + 1 if before is not None else 0, name)
        before = name
    return tuple(found)


def compared(left: Scene, right: Scene) -> Scene:
    """Return the right scene with what only the left one has, each item marked.

    Placed scenes share their frame: what has the same key stands in the same place, and what
    has another stands elsewhere. The legend is the right one's.
    """
    words = {shape.key for scene in (left, right) for shape in scene.shapes if shape.look in _WORDS}
    legend = {arrow.key for scene in (left, right) for arrow in scene.arrows if arrow.tail in words}
    kept = {
        shape.key
        for shape in left.shapes
        if shape.look is Look.TEXT and shape.label  # names of lanes, numbers of steps
    }
    shapes = _marked(left.shapes, right.shapes, words, kept)
    arrows = _marked(left.arrows, right.arrows, legend, set())
    if right.placed:
        places = {shape.key: shape.at for shape in shapes if shape.at}
        arrows = [
            _carried(each, left, places) if each.change is Change.REMOVED else each
            for each in arrows
        ]
        for arrow in arrows:
            if arrow.change and arrow.stroke in _ALONE:
                shapes.append(_sign(arrow, shapes))
    titles = dict.fromkeys((left.title, right.title))
    return replace(
        right,
        title="  →  ".join(filter(None, titles)),
        shapes=tuple(shapes),
        arrows=tuple(arrows),
        ranks=tuple(dict.fromkeys((*left.ranks, *right.ranks))),
    )


def alone(scene: Scene, change: Change) -> Scene:
    """Return a scene that the other network has nothing like, all of it marked."""
    nothing = replace(scene, title="", shapes=(), arrows=())
    pair = (nothing, scene) if change is Change.ADDED else (scene, nothing)
    return compared(*pair)


def explained(scene: Scene) -> Scene:
    """Return a comparison with its key in the title, or with the word that nothing differs."""
    items: Sequence[Shape | Arrow] = (*scene.shapes, *scene.arrows)
    changes = {item.change for item in items}
    key = "; ".join(words for change, words in _KEY.items() if change in changes) or SAME
    return replace(scene, title="\n".join(filter(None, (scene.title, key))))


def _marked(
    left: tuple[Item, ...], right: tuple[Item, ...], words: set[str], kept: set[str]
) -> list[Item]:
    """The items of both, those of the right one first; of the left one's words, ``kept`` stay."""
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
    gone = [
        item
        for key, item in before.items()
        if key not in after and (key not in words or key in kept)
    ]
    return found + [replace(item, change=Change.REMOVED) for item in gone]


def _content(item: Shape | Arrow) -> object:
    """What an item says; where it stands and its colour are no part of that."""
    if isinstance(item, Shape):
        return item.label, item.data
    return item.tail, item.head, item.stroke, item.data


def _sign(arrow: Arrow, shapes: Sequence[Shape]) -> Shape:
    """What happened to an arrow, on it and off what is drawn already."""
    assert arrow.path is not None  # noqa: S101  # loops have places
    assert arrow.change is not None  # noqa: S101  # the caller asks
    a, b, c, d = (complex(*point) for point in arrow.path[:4])

    def along(t: float) -> complex:
        u = 1 - t
        return u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d

    def room(at: complex) -> float:
        boxes = [(s.at, s.size) for s in shapes if s.at and s.label]
        return min(
            max(abs(at.real - x) - (w + _SIGN) / 2, abs(at.imag - y) - (h + _SIGN) / 2)
            for (x, y), (w, h) in boxes
        )

    places = [along(t) for t in _PLACES]
    at = next((place for place in places if room(place) > 0), max(places, key=room))
    key = f"{arrow.key}_sign"
    return Shape(key, _SIGNS[arrow.change], Look.TEXT, (at.real, at.imag), (_SIGN, _SIGN))


def _carried(arrow: Arrow, scene: Scene, places: Mapping[str, Point]) -> Arrow:
    """A removed arrow whose end the other network has elsewhere: turned and stretched with it."""
    if arrow.path is None:
        return arrow
    at = {shape.key: shape.at for shape in scene.shapes if shape.at}
    tail, head = complex(*at[arrow.tail]), complex(*at[arrow.head])
    new_tail, new_head = complex(*places[arrow.tail]), complex(*places[arrow.head])
    stretch = (new_head - new_tail) / (head - tail)
    points = (new_tail + (complex(*point) - tail) * stretch for point in arrow.path)
    return replace(arrow, path=tuple((point.real, point.imag) for point in points))
