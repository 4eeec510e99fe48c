"""Two scenes as one, with what was added, removed and changed marked."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from cliquegraph.draw.scene import Arrow, Change, Look, Scene, Shape

_WORDS = (Look.TEXT, Look.NOTE, Look.TITLE)


def compared(left: Scene, right: Scene) -> Scene:
    """Return the right scene, each item marked by what it is to the left one.

    What only the left one has is drawn where it stood there. Words are those of the right one.
    """
    shapes = _marked(left.shapes, right.shapes)
    arrows = _marked(left.arrows, right.arrows)
    return replace(
        right,
        title=f"{left.title}  →  {right.title}",
        shapes=tuple(shapes),
        arrows=tuple(arrows),
        ranks=tuple(dict.fromkeys((*left.ranks, *right.ranks))),
    )


Item = TypeVar("Item", Shape, Arrow)


def _marked(left: tuple[Item, ...], right: tuple[Item, ...]) -> list[Item]:
    """The items of both, those of the right one first."""
    before = {item.key: item for item in left}
    after = {item.key: item for item in right}
    found = []
    for key, item in after.items():
        if _is_word(item):
            found.append(item)
        elif key not in before:
            found.append(replace(item, change=Change.ADDED))
        elif _content(before[key]) != _content(item):
            found.append(replace(item, change=Change.CHANGED))
        else:
            found.append(item)
    gone = [item for key, item in before.items() if key not in after and not _is_word(item)]
    return found + [replace(item, change=Change.REMOVED) for item in gone]


def _is_word(item: Shape | Arrow) -> bool:
    return isinstance(item, Shape) and item.look in _WORDS


def _content(item: Shape | Arrow) -> object:
    """What an item says; where it stands and its colour are no part of that."""
    if isinstance(item, Shape):
        return item.label, item.data
    return item.tail, item.head, item.stroke, item.data
