"""Combination of two scenes into one with added, removed and changed items marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import TypeVar

from cliquegraph.draw.colors import CHANGES
from cliquegraph.draw.scene import (
    SIGNS,
    Arrow,
    Change,
    Look,
    Point,
    Scene,
    Shape,
    Stroke,
    along,
    shifted,
    text_size,
)

_FIXED = (Look.LEGEND, Look.TITLE)  # the same in both scenes
_ALONE = (
    Stroke.FORWARD,
    Stroke.FEEDBACK,
    Stroke.ITSELF,
    Stroke.ENTRY,
)  # no other item shows their change
_SIZE = 12.0  # size of a sign, in points
_PLACES = (
    0.4,
    0.33,
    0.47,
    0.27,
    0.54,
    0.6,
    0.67,
    0.2,
    0.74,
)  # positions of a sign along an arrow, best first
_ASIDE = 4.5  # offset of a removed lane from a remaining one

_KEY = {
    Change.ADDED: "thick and green, +: added",
    Change.REMOVED: "thick and red, −: removed",
    Change.CHANGED: "thick and brown, ≠: changed",
}
SAME = "no difference in this view"

Item = TypeVar("Item", Shape, Arrow)
Name = TypeVar("Name")


def merged(*lists: Iterable[Name]) -> tuple[Name, ...]:
    """Merge lists: the last in its order, with the others' extra names after their predecessors."""
    *others, last = map(list, lists)
    for names in others:
        place = 0
        for name in names:
            if name not in last:
                last.insert(place, name)
            place = last.index(name) + 1
    return tuple(last)


def compared(left: Scene, right: Scene) -> Scene:
    """Return the right scene plus the items that only the left one has, with changes marked.

    Placed scenes share a frame: items with the same key have the same position, others have
    different ones. They also share a legend, which has no marks.
    """
    both = (*left.shapes, *right.shapes)
    fixed = {shape.key for shape in both if shape.look in _FIXED}
    shapes = _marked(left.shapes, right.shapes, fixed)
    fixed |= {arrow.key for arrow in (*left.arrows, *right.arrows) if arrow.tail in fixed}
    arrows = _marked(left.arrows, right.arrows, fixed)
    if right.placed:
        arrows = [_aside(arrow) for arrow in arrows]
        for arrow in arrows:
            if arrow.change and arrow.stroke in _ALONE:
                shapes.append(_sign(arrow, arrow.change, shapes))
    titles = dict.fromkeys((left.title, right.title))
    return replace(
        right,
        title=" →\n".join(filter(None, titles)),
        shapes=tuple(shapes),
        arrows=tuple(arrows),
        ranks=tuple(dict.fromkeys((*left.ranks, *right.ranks))),
    )


def alone(scene: Scene, change: Change) -> Scene:
    """Return a scene without a counterpart in the other network, with everything marked."""
    nothing = replace(scene, title="", shapes=(), arrows=())
    pair = (nothing, scene) if change is Change.ADDED else (scene, nothing)
    return compared(*pair)


def explained(scene: Scene) -> Scene:
    """Return a comparison with its legend in the title, or the statement that nothing differs."""
    items: Sequence[Shape | Arrow] = (*scene.shapes, *scene.arrows)
    changes = {item.change for item in items}
    key = [words for change, words in _KEY.items() if change in changes] or [SAME]
    return replace(scene, title="\n".join(filter(None, (scene.title, *key))))


def _marked(left: Iterable[Item], right: Iterable[Item], fixed: set[str]) -> list[Item]:
    """The items of both scenes, the right one's first."""
    before = {item.key: item for item in left}
    after = {item.key: item for item in right}
    marked = []
    for key, item in after.items():
        if key in fixed:
            marked.append(item)
        elif key not in before:
            marked.append(replace(item, change=Change.ADDED))
        elif _content(before[key]) != _content(item):
            marked.append(_changed(before[key], item))
        else:
            marked.append(item)
    gone = [item for key, item in before.items() if key not in after]
    return marked + [
        item if item.key in fixed else replace(item, change=Change.REMOVED) for item in gone
    ]


def _content(item: Shape | Arrow) -> object:
    """The content of an item, without its position and color."""
    if isinstance(item, Shape):
        return None if item.look is Look.TEXT else (item.label, item.data)
    if item.stroke is Stroke.LANE:  # its tail is the previous box, not the feature that is read
        return item.head, item.data
    return item.tail, item.head, item.stroke, item.data


def _changed(before: Item, item: Item) -> Item:
    """A changed item of both scenes; labels of network parts show old and new figures."""
    changed = replace(item, change=Change.CHANGED)
    if isinstance(before, Arrow) or isinstance(changed, Arrow) or changed.look is not Look.PART:
        return changed
    label = "\n".join(_lines(before.label.split("\n"), changed.label.split("\n")))
    return replace(changed, label=label, size=text_size(f"≠ {label}", 11))


def _lines(old: list[str], new: list[str]) -> Iterator[str]:
    """The lines of both; lines that differ only in figures are merged and show both."""
    words = [[*map(_words, lines)] for lines in (old, new)]
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            yield from map(_line, old[i:j], new[k:m])
        else:
            yield from (f"− {line}" for line in old[i:j])
            yield from (f"+ {line}" for line in new[k:m])


def _words(line: str) -> tuple[str, ...]:
    """The words of a line, with figures masked."""
    return tuple("#" if any(map(str.isdigit, word)) else word for word in line.split())


def _line(old: str, new: str) -> str:
    pairs = zip(old.split(), new.split(), strict=True)
    return " ".join(b if a == b else f"{a} → {b}" for a, b in pairs)


def _aside(arrow: Arrow) -> Arrow:
    """Shift a removed lane, since another lane may remain in its place."""
    if arrow.stroke is not Stroke.LANE or arrow.change is not Change.REMOVED:
        return arrow
    return replace(arrow, path=shifted(arrow.path, 0, -_ASIDE))


def _sign(arrow: Arrow, change: Change, shapes: Sequence[Shape]) -> Shape:
    """The sign of an arrow's change, placed on the arrow away from other shapes."""
    boxes = [(s.at, s.size) for s in shapes if s.label]

    def room(at: Point) -> float:
        return min(
            max(abs(at[0] - x) - (w + _SIZE) / 2, abs(at[1] - y) - (h + _SIZE) / 2)
            for (x, y), (w, h) in boxes
        )

    places = [along(arrow.path, t) for t in _PLACES]
    at = next((place for place in places if room(place) > 0), max(places, key=room))
    sign, color = SIGNS[change], CHANGES[change]
    return Shape(f"{arrow.key}_sign", sign, Look.SIGN, at, (_SIZE, _SIZE), color)
