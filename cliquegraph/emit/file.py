"""Assembles a source file from a view, a speller and a backend's templates.

The templates of a backend are ``model`` (the file), ``class``, ``network``, and one
for each helper that a kind of member or an operation needs. They substitute only.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment

from cliquegraph.emit.code import Bracket, Text, docstring, layout, paragraph
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.view import ClassView, ModelView


def write_file(
    view: ModelView, speller: Speller, templates: Environment, helpers: Sequence[str]
) -> str:
    """Return the source of a network.

    Args:
        view: the network.
        speller: the framework's words.
        templates: ``NAME.py.jinja`` for each of the names above and each helper.
        helpers: the helpers that this network needs, in order.
    """

    def render(template: str, **values: object) -> str:
        return templates.get_template(f"{template}.py.jinja").render(**values).strip("\n")

    definitions = [
        *(render(helper) for helper in helpers),
        *(render("class", **class_values(each, speller)) for each in view.classes),
        render("network", **network_values(view, speller)),
    ]
    return (
        render(
            "model",
            doc=paragraph(view.doc),
            header="\n".join(view.header),
            class_name=view.class_name,
            definitions="\n\n\n".join(definitions),
        ).lstrip("\n")
        + "\n"
    )


def class_values(view: ClassView, speller: Speller) -> dict[str, str]:
    """Return what the template of a class substitutes."""
    inputs = tuple(Text(text) for text in ("self", *map(speller.parameter, view.inputs)))
    returned = speller.returns(len(view.body.returns))
    return {
        "name": view.name,
        "doc": docstring(view.doc, 1),
        "widths": "".join(f", {width}: int" for width in view.widths),
        "members": speller.members(view.groups, 2),
        "call": "\n".join(
            layout(
                Bracket(f"{speller.call_method}(", inputs, ")"),
                prefix="def ",
                suffix=f" -> {returned}:",
                depth=1,
            )
        ),
        "body": speller.body(view.body, 2),
    }


def network_values(view: ModelView, speller: Speller) -> dict[str, str]:
    """Return what the template of the network's class substitutes."""
    channels, height, width = view.input_shape
    read = view.logits.reads
    features = [name if name in read else "_" for name in view.features.returns]
    return {
        "name": view.class_name,
        "doc": docstring(view.doc, 1),
        "classes": str(view.classes_default),
        "channels": str(channels),
        "height": str(height),
        "width": str(width),
        "members": speller.members(view.groups, 2),
        "input": view.input_name,
        "features_returned": speller.returns(len(view.features.returns), always_tuple=True),
        "features_body": speller.body(view.features, 2, always_tuple=True),
        "features": ", ".join(features) + ("," if len(features) == 1 else ""),
        "logits_body": speller.body(view.logits, 2),
    }
