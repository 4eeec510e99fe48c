"""A scene as JSON data: its items and labels, without positions."""

from __future__ import annotations

from cliquegraph.draw.scene import Arrow, Look, Scene, Shape

_DRAWN = (Look.LEGEND, Look.SIGN)  # redundant with the items


def to_json(scene: Scene) -> dict[str, object]:
    """Return the nodes and edges of a scene, and separately the arrows of its legend."""
    words = {shape.key for shape in scene.shapes if shape.look is Look.LEGEND}
    return {
        "name": scene.name,
        "title": scene.title,
        "nodes": [_node(shape) for shape in scene.shapes if shape.look not in _DRAWN],
        "edges": [_edge(arrow) for arrow in scene.arrows if arrow.tail not in words],
        "legend": [
            {"id": arrow.key, "kind": arrow.stroke.value, "colour": arrow.color, **arrow.data}
            for arrow in scene.arrows
            if arrow.tail in words
        ],
    }


def _node(shape: Shape) -> dict[str, object]:
    return {
        "id": shape.key,
        "kind": shape.look.value,
        "label": shape.label,
        **_marks(shape),
    }


def _edge(arrow: Arrow) -> dict[str, object]:
    return {
        "id": arrow.key,
        "kind": arrow.stroke.value,
        "from": arrow.tail,
        "to": arrow.head,
        **_marks(arrow),
    }


def _marks(item: Shape | Arrow) -> dict[str, object]:
    return {
        **({"colour": item.color} if item.color else {}),
        **item.data,
        **({"change": item.change.value} if item.change else {}),
    }
