"""Routing of arrows between the layers of a loop, around layers and with few crossings."""

from __future__ import annotations

from cmath import rect
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import pi, tan

import numpy as np

from cliquegraph.draw.scene import HEAD, Path, Point, sampled

NODE = 36.0
"""Diameter of a layer."""

_BOW = 0.06  # bow relative to an arrow's length, to separate the two of a pair
_BOWS = (0.0, 0.1, -0.1, 0.18, -0.18, 0.26, -0.26)  # bows of arrows from X0
_ASLANT = pi / 3
_REACHES = (
    0.2,
    0.32,
    0.44,
    0.56,
    0.68,
    0.8,
)  # control points of detours from X0, relative to their length
_LOOP = 2.2 * NODE  # how far the control points of a loop are from its layer
_OPENS = 0.6  # half of the angle between them
_CLEAR = 13.0  # minimum distance of an arrow from a layer that it passes
_ROOM = 12.0  # sufficient distance between heads at the rim of a layer
_LEAST = 4.0  # minimum distance between heads that look separate
_PARTS = 16  # segments of a curve for counting crossings
_COUNTED = 200  # arrows up to which crossings are counted; with more it is slow and no help

Pair = tuple[int, int]
Segments = tuple[np.ndarray, np.ndarray]


def routes(places: Mapping[int, Point], pairs: Iterable[Pair]) -> dict[Pair, Path]:
    """Return a curve from rim to rim for each pair of layers, 0 being X0.

    Two arrows between the same layers bow to opposite sides. One from X0 has no partner: it takes
    the route with the fewest crossings, starting with the nearest layers, so that arrows to
    farther ones go around them.
    """
    pairs = list(pairs)
    # Seen from a layer, two neighbors on a circle of n are pi / n apart. Arrows to them that bow
    # toward each other must stay within that angle, or they cross near the layer.
    bow = min(_BOW, 0.9 * tan(pi / (2 * max(2, len(places) - 1))) / 4)
    inner = {pair: _between(places, pair, bow) for pair in pairs if pair[0]}
    entries: dict[Pair, Path] = {}
    count = len(pairs) <= _COUNTED
    crossed = _segments(inner.values()) if count else None
    for pair in sorted((pair for pair in pairs if not pair[0]), key=lambda p: _length(places, p)):
        rims = [path[-1] for other, path in inner.items() if other[1] == pair[1]]
        rims += [path[0] for other, path in inner.items() if other[0] == pair[1]]
        ways = [_between(places, pair, bow) for bow in _BOWS]
        clear = [way for way in (*ways, *_around(places, pair)) if _clears(way, places, pair)]
        own = _segments(entries.values()) if count else None
        entries[pair] = min(
            clear or ways[:1],
            key=lambda way: _cost(way, rims, own, crossed),
        )
    return inner | entries


def _cost(
    path: Path, rims: Sequence[Point], own: Segments | None, crossed: Segments | None
) -> tuple[float, ...]:
    """The cost of a route from X0: its flaws, the worst first, then its length."""
    room = min((_ROOM, *(_apart(path[-1], rim) for rim in rims)))
    points = sampled(path, _PARTS)
    return (
        room < _LEAST,
        _crossings(path, own),
        _crossings(path, crossed),
        -room,
        sum(_apart(a, b) for a, b in pairwise(points)),
    )


def _crossings(path: Path, others: Segments | None) -> int:
    """The number of times a curve crosses others."""
    if others is None or not others[0].size:
        return 0
    (a, b), (c, d) = _segments([path]), others
    a, b = a[:, None], b[:, None]
    crosses = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    return int(crosses.sum())


def _segments(paths: Iterable[Path]) -> Segments:
    points = np.array([sampled(path, _PARTS) for path in paths]).reshape(-1, _PARTS + 1, 2)
    at = points[..., 0] + 1j * points[..., 1]
    return at[:, :-1].ravel(), at[:, 1:].ravel()


def _side(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Positive if a point is to the left of the line from a to b."""
    side: np.ndarray = ((b - a).conj() * (point - a)).imag
    return side


def _around(places: Mapping[int, Point], pair: Pair) -> list[Path]:
    """Routes that leave X0 upward or downward and enter a layer from outside the circle."""
    begin, end = (complex(*places[layer]) for layer in pair)
    length, outwards = abs(end - begin), end / abs(end)
    return [
        _curve(begin, begin + up * 1j * out * length, end + aslant * back * length, end)
        for up in (1, -1)
        for aslant in [outwards * rect(1, up * _ASLANT)]
        for out in _REACHES
        for back in _REACHES
    ]


def _between(places: Mapping[int, Point], pair: Pair, bow: float) -> Path:
    """A curve from rim to rim, bowed to its right by a fraction of its length.

    That of a layer to itself is a loop on the outside of the circle.
    """
    if pair[0] == pair[1]:
        at = complex(*places[pair[0]])
        outwards = at / abs(at) if at else 1j
        leaves, arrives = (at + outwards * rect(_LOOP, turn) for turn in (_OPENS, -_OPENS))
        return _curve(at, leaves, arrives, at)
    begin, end = (complex(*places[layer]) for layer in pair)
    forth = (end - begin) / 3
    aside = -1j * (end - begin) * bow * 4 / 3
    return _curve(begin, begin + forth + aside, end - forth + aside, end)


def _curve(begin: complex, leaves: complex, arrives: complex, end: complex) -> Path:
    """A Bézier curve from the rim of a layer to that of another one."""
    points = (
        begin + (leaves - begin) / abs(leaves - begin) * NODE / 2,
        leaves,
        arrives,
        end + (arrives - end) / abs(arrives - end) * (NODE / 2 + HEAD),
    )
    return tuple((point.real, point.imag) for point in points)


def _clears(path: Path, places: Mapping[int, Point], pair: Pair) -> bool:
    others = [at for layer, at in places.items() if layer not in pair]
    return all(
        _apart(point, other) > NODE / 2 + _CLEAR for point in sampled(path, 24) for other in others
    )


def _length(places: Mapping[int, Point], pair: Pair) -> float:
    return round(_apart(places[pair[0]], places[pair[1]]), 6)


def _apart(one: Point, other: Point) -> float:
    return abs(complex(*one) - complex(*other))
