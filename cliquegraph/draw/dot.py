"""Conversion of scenes to DOT, and of DOT to pictures with the Graphviz inside pygraphviz."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from math import hypot
from typing import Any

import graphviz

from cliquegraph.draw.colors import CHANGES, FAINT, INK
from cliquegraph.draw.needs import has, need
from cliquegraph.draw.scene import (
    HEAD,
    SIGNS,
    Arrow,
    Change,
    Look,
    Path,
    Point,
    Scene,
    Shape,
    Stroke,
)

FONT = "Helvetica,Arial,sans-serif"

_LOOKS: dict[Look, dict[str, str]] = {
    Look.INPUT: {"shape": "box", "style": "filled", "fillcolor": "#fff4d6", "color": "#8f6b00"},
    Look.LAYER: {"shape": "ellipse", "style": "filled", "fillcolor": "#e8f0fb", "color": "#2f5d9b"},
    Look.KERNEL: {"shape": "box", "style": "filled,rounded", "fontcolor": "white", "fontsize": "9"},
    Look.PART: {"shape": "box", "style": "filled,rounded", "fillcolor": "#f6f8fa", "color": INK},
    Look.TEXT: {"shape": "plaintext", "style": "", "fontsize": "10", "margin": "0"},
    Look.TITLE: {"shape": "plaintext", "style": "", "fontsize": "12", "margin": "0"},
    Look.LEGEND: {"shape": "plaintext", "style": "", "fontsize": "10", "margin": "0"},
    Look.SIGN: {"shape": "ellipse", "style": "filled", "fontcolor": "white", "margin": "0"},
}
_STROKES: dict[Stroke, dict[str, str]] = {
    Stroke.FORWARD: {"style": "solid", "arrowhead": "normal", "penwidth": "1.4"},
    Stroke.FEEDBACK: {"style": "dashed", "arrowhead": "empty", "penwidth": "1.4"},
    Stroke.ITSELF: {"style": "dashed", "arrowhead": "normal", "penwidth": "1.4"},
    Stroke.ENTRY: {"style": "dotted", "arrowhead": "normal", "penwidth": "1.8"},
    Stroke.VERSION: {"style": "dashed", "arrowhead": "open", "color": FAINT, "penwidth": "1"},
    Stroke.FLOW: {"style": "solid", "arrowhead": "normal", "color": INK, "penwidth": "1.2"},
    Stroke.LANE: {"style": "solid", "color": FAINT, "penwidth": "2.2"},
}
_THICKER = 1.6  # extra width of a marked arrow in the loop, in points
_SLIGHTLY = 0.6  # for other arrows, whose boxes are marked too
_SIGN_ROOM = 8.0  # room for the sign of a change before the name of a kernel
# Lines whose dashes show their kind: removal shows in their color and a sign.
_DASHED = (Stroke.FORWARD, Stroke.FEEDBACK, Stroke.ITSELF, Stroke.ENTRY)


def to_dot(scene: Scene, title: str = "") -> str:
    """Return a scene as DOT; a placed one keeps its layout under ``neato -n2``.

    Args:
        scene: the scene.
        title: a label of the whole, for a scene without positions.
    """
    dot = graphviz.Digraph(scene.name)
    dot.attr(id=_frame(scene), outputorder="edgesfirst", bgcolor="white", pad="0.2")
    if not scene.placed:
        dot.attr(rankdir="LR", nodesep="0.3", ranksep="0.3")
    if title:
        dot.attr(label=_label(title), labelloc="t")
    dot.attr("node", fontname=FONT, fontsize="11", fontcolor=INK, margin="0.12,0.06")
    dot.attr("edge", fontname=FONT, arrowsize="0.7")
    for shape in scene.shapes:
        end = r"\l" if shape.look is Look.LEGEND and shape.label else ""
        dot.node(shape.key, _label(_signed(shape), end), **_shape(shape, placed=scene.placed))
    for arrow in scene.arrows:
        dot.edge(_port(arrow.tail), _port(arrow.head), **_arrow(arrow, placed=scene.placed))
    for rank in scene.ranks if not scene.placed else ():
        dot.body.append("\t{rank=same; " + " ".join(rank) + "}\n")
    text: str = dot.source
    return text


def _frame(scene: Scene) -> str:
    return f"{scene.name}_picture"


def lay_out(scene: Scene) -> Scene:
    """Return a scene with positions: its own, or those computed by Graphviz's ``dot``.

    Raises:
        UsageError: pygraphviz is not installed.
    """
    if scene.placed:
        return scene
    graph = _graph(to_dot(scene))
    with _quiet():
        graph.layout(prog="dot")
    at = {node: _points(graph.get_node(node).attr["pos"])[0] for node in graph.nodes()}
    paths = {
        edge.attr["id"]: _points(edge.attr["pos"].split(" ", 1)[1]) for edge in graph.edges_iter()
    }
    graph.close()
    return replace(
        scene,
        shapes=tuple(replace(shape, at=at[shape.key]) for shape in scene.shapes),
        arrows=tuple(replace(arrow, path=paths[arrow.key]) for arrow in scene.arrows),
        placed=True,
    )


def can_lay_out(scene: Scene) -> bool:
    """Return whether the scene has positions, or pygraphviz is there to compute them."""
    return scene.placed or has("pygraphviz")


def draw(scene: Scene, suffix: str) -> bytes:
    """Return a placed scene as a picture, ``svg``, ``png`` or ``pdf``.

    SVG output is byte-identical on every machine.

    Raises:
        UsageError: pygraphviz is not installed.
    """
    graph = _graph(to_dot(scene))
    with _quiet():
        picture: bytes = graph.draw(format=suffix, prog="nop2")
    graph.close()
    if suffix != "svg":
        return picture
    return _named(_level(picture.decode(), scene), scene).encode()


_TEXT = re.compile(r' x="[-\d.]+" y="[-\d.]+"([^>]*? font-size="([\d.]+)")')
_TITLE = re.compile(r'(<g id="([^"]*)" class="[a-z]*">\n<title>)[^<]*')
_GROUP = re.compile(r'(<g id="([^"]*)" class="node">\n)(.*?)(\n</g>)', re.DOTALL)


def _named(svg: str, scene: Scene) -> str:
    """Set titles, which browsers show as tooltips, to descriptions of items instead of keys."""
    labels = {shape.key: shape.label.replace("\n", ", ") for shape in scene.shapes}
    names = {_frame(scene): scene.title.replace("\n", ", ") or scene.name}
    items: tuple[Shape | Arrow, ...] = (*scene.shapes, *scene.arrows)
    for item in items:
        name = item.data.get("kernel")
        ends = item.data.get("reads"), item.data.get("writes")
        if isinstance(item, Arrow) and not all(ends):
            ends = labels[item.tail], labels[item.head]
        way = " → ".join(map(str, ends)) if all(ends) else str(item.data.get("label", ""))
        named = ": ".join(str(part) for part in (name, way) if part)
        names[item.key] = named or labels.get(item.key, "")
    titles = {escape(key): escape(name, quote=False) for key, name in names.items()}
    return _TITLE.sub(lambda found: found[1] + titles[found[2]], svg)


def _level(svg: str, scene: Scene) -> str:
    """Place text independently of fonts: Graphviz would use the metrics of the machine's fonts."""
    places = {escape(shape.key): shape for shape in scene.shapes}
    right, down = _shift(svg, places)

    def group(found: re.Match[str]) -> str:
        begin, key, inside, end = found.groups()
        shape = places[key]
        x, middle = shape.at
        x -= shape.size[0] / 2 if shape.look is Look.LEGEND else 0
        lines = len(_TEXT.findall(inside))
        line = iter(range(lines))

        def text(found: re.Match[str]) -> str:
            size = float(found[2])
            y = -middle + (next(line) - (lines - 1) / 2) * 1.2 * size + 0.35 * size
            return f' x="{x + right:.2f}" y="{y + down:.2f}"{found[1]}'

        return begin + _TEXT.sub(text, inside) + end

    return _GROUP.sub(group, svg)


def _shift(svg: str, places: Mapping[str, Shape]) -> Point:
    """Graphviz's translation of the scene, from the first shape whose center is known."""
    for found in _GROUP.finditer(svg):
        shape = places[found[2]]
        if ellipse := re.search(r'<ellipse [^>]*?cx="([-\d.]+)" cy="([-\d.]+)"', found[3]):
            return float(ellipse[1]) - shape.at[0], float(ellipse[2]) + shape.at[1]
        if frame := re.search(r'<(?:polygon|path) [^>]*? (?:points|d)="([^"]*)"', found[3]):
            pairs = re.findall(r"([-\d.]+),([-\d.]+)", frame[1])
            xs, ys = ([float(pair[i]) for pair in pairs] for i in (0, 1))
            return (
                (min(xs) + max(xs)) / 2 - shape.at[0],
                (min(ys) + max(ys)) / 2 + shape.at[1],
            )
    return 0.0, 0.0


def _graph(dot: str) -> Any:
    return need("pygraphviz").AGraph(string=dot)


def _points(text: str) -> Path:
    """Graphviz's ``x,y x,y ...``."""
    pairs = (pair.split(",") for pair in text.split())
    return tuple((float(x), float(y)) for x, y in pairs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the font libraries' warnings on the process's standard error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _label(text: str, end: str = "") -> str:
    """Escape text for DOT, so that nothing in it is markup, and keep its line breaks."""
    lines: list[str] = [graphviz.escape(line) for line in text.split("\n")]
    label: str = graphviz.nohtml(r"\n".join(lines) + end)
    return label


def _signed(shape: Shape) -> str:
    return f"{SIGNS[shape.change]} {shape.label}" if shape.change else shape.label


def _shape(shape: Shape, *, placed: bool) -> dict[str, str]:
    attributes = {"id": shape.key, **_LOOKS[shape.look]}
    if shape.color:
        attributes |= {"fillcolor": shape.color, "color": shape.color}
    width, height = shape.size
    width += _SIGN_ROOM if shape.change and shape.look is Look.KERNEL else 0
    # Fixed sizes, since Graphviz would use the metrics of the machine's fonts.
    attributes |= {
        "width": f"{width / 72:.4g}",
        "height": f"{height / 72:.4g}",
        "fixedsize": "true",
    }
    if placed:
        attributes["pos"] = f"{_point(shape.at)}!"
    if shape.line:
        attributes["group"] = shape.line  # Graphviz keeps it straight
    if not shape.change:
        return attributes
    color = CHANGES[shape.change]
    if shape.look is Look.TEXT:
        return attributes | {"fontcolor": color}
    attributes |= {"color": color, "penwidth": "3"}
    if shape.change is Change.REMOVED:
        attributes |= {"style": "filled,dashed", "fillcolor": "white", "fontcolor": color}
    return attributes


def _arrow(arrow: Arrow, *, placed: bool) -> dict[str, str]:
    attributes = {"id": arrow.key, **_STROKES[arrow.stroke]}
    if arrow.color:
        attributes["color"] = arrow.color
    thicker = arrow.weight
    if arrow.change:
        thicker += _THICKER if arrow.stroke in _DASHED else _SLIGHTLY
    if thicker:
        attributes["penwidth"] = f"{float(attributes['penwidth']) + thicker:.4g}"
    if not arrow.tip:
        attributes["arrowhead"] = "none"
    if placed:
        tip = f"e,{_point(_tip(arrow.path))} " if arrow.tip else ""
        attributes["pos"] = tip + " ".join(map(_point, arrow.path))
    if arrow.change:
        attributes["color"] = CHANGES[arrow.change]
    if arrow.change is Change.REMOVED and arrow.stroke not in _DASHED:
        attributes["style"] = "dashed"
    return attributes


def _port(key: str) -> str:
    """A node's name as the end of an edge, quoted since a colon would start a port."""
    quoted: str = graphviz.quoting.quote(key) if ":" in key else key
    return quoted


def _tip(path: Path) -> Point:
    """The tip of an arrow's head, which extends the path in its direction."""
    (x0, y0), (x1, y1) = path[-2:]
    length = hypot(x1 - x0, y1 - y0) or 1.0
    return x1 + (x1 - x0) / length * HEAD, y1 + (y1 - y0) / length * HEAD


def _point(point: Point) -> str:
    return f"{point[0]:.2f},{point[1]:.2f}"
