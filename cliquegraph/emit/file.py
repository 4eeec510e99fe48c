"""Assembles a source file from a view, a speller and a backend's templates.

The templates of a backend are ``model`` (the file), ``class``, ``network``, and one
for each helper that a kind of member or an operation needs. They substitute only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from jinja2 import Environment

from cliquegraph.emit.code import WIDTH, Bracket, Text, docstring, layout, paragraph
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.view import ClassView, ModelView


def write_file(
    view: ModelView,
    speller: Speller,
    templates: Environment,
    helpers: Sequence[str],
    imports: Mapping[str, str],
) -> str:
    """Return the source of a network.

    Args:
        view: the network.
        speller: the framework's words.
        templates: ``NAME.py.jinja`` for each of the names above and each helper.
        helpers: the helpers that this network needs, in order.
        imports: import lines and the name that each is for; one whose name does not occur in
            this network is left out.
    """

    def render(template: str, **values: object) -> str:
        return templates.get_template(f"{template}.py.jinja").render(**values).strip("\n")

    definitions = "\n\n\n".join(
        [
            *(render(helper) for helper in helpers),
            *(render("class", **class_values(each, speller)) for each in view.classes),
            render("network", **network_values(view, speller)),
        ]
    )
    used = [line for line, name in imports.items() if re.search(rf"\b{name}\b", definitions)]
    file = render(
        "model",
        doc=paragraph(f'"""{view.doc}'),
        header="\n".join(view.header),
        imports="\n".join(used),
        class_name=view.class_name,
        definitions=definitions,
    )
    return f"{file}\n"


def class_values(view: ClassView, speller: Speller) -> dict[str, str]:
    """Return what the template of a class substitutes."""
    widths = [f"{width}: int" for width in view.widths]
    returned = speller.returns(len(view.body.returns))
    return {
        "name": view.name,
        "doc": docstring(view.doc, 1),
        "init": method("__init__", [*speller.init_inputs, *widths], "None"),
        "members": speller.members(view.groups, 2),
        "call": method(speller.call_method, map(speller.parameter, view.inputs), returned),
        "body": speller.body(view.body, 2),
    }


def network_values(view: ModelView, speller: Speller) -> dict[str, str]:
    """Return what the template of the network's class substitutes."""
    channels, height, width = view.input_shape
    read = view.logits.reads
    features = [name if name in read else "_" for name in view.features.returns]
    given = [f"{view.input_name}: {speller.tensor}"]
    returned = speller.returns(len(view.features.returns), always_tuple=True)
    return {
        "name": view.class_name,
        "doc": docstring(view.doc, 1),
        "classes": str(view.classes_default),
        "channels": str(channels),
        "height": str(height),
        "width": str(width),
        "members": speller.members(view.groups, 2),
        "input": view.input_name,
        "forward_features": method("forward_features", given, returned),
        "features_body": speller.body(view.features, 2, always_tuple=True),
        "unpacking": "\n".join(unpacking(features, f"self.forward_features({view.input_name})")),
        "logits_body": speller.body(view.logits, 2),
    }


def unpacking(targets: Sequence[str], value: str) -> list[str]:
    """Return the assignment of a tuple to variables, in brackets where it would be too long."""
    flat = f"({targets[0]},)" if len(targets) == 1 else ", ".join(targets)
    lines = layout(Text(flat), suffix=f" = {value}", depth=2)
    if len(lines[0]) <= WIDTH:
        return lines
    return layout(Bracket("(", tuple(map(Text, targets)), ")"), suffix=f" = {value}", depth=2)


def method(name: str, inputs: Iterable[str], returned: str) -> str:
    """Return the first lines of a method, laid out."""
    signature = Bracket(f"{name}(", (Text("self"), *map(Text, inputs)), ")")
    return "\n".join(layout(signature, prefix="def ", suffix=f" -> {returned}:", depth=1))
