"""Assembles a source file from a view, a ``Speller`` and a backend's templates.

The templates of a backend are ``model`` (the file), ``class``, ``network``, and one for each helper
that a kind of member or an operation needs. Templates only substitute.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from textwrap import indent
from types import MappingProxyType

from jinja2 import Environment

from cliquegraph.emit.code import INDENT, WIDTH, Bracket, Text, docstring, layout, paragraph
from cliquegraph.emit.spell import Speller
from cliquegraph.emit.view import VERSIONS, ClassView, ModelView
from cliquegraph.emit.widths import RATE
from cliquegraph.ir.types import Part

_HEADING = "# ---- how the network is computed ".ljust(WIDTH, "-")
_POSTPONED = "from __future__ import annotations"  # which name what follows

Imports = Mapping[str, tuple[str, ...]]
"""Import lines, with ``{}`` in place of names, and the names that each may import."""


def write_file(
    view: ModelView,
    speller: Speller,
    templates: Environment,
    helpers: Mapping[str, Mapping[str, str]],
    imports: Sequence[Imports],
    methods: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    limits: str = "",
    below: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> str:
    """Return the source of a network.

    Args:
        view: the network.
        speller: emits code of the framework.
        templates: ``NAME.py.jinja`` for each of the names above and each helper.
        helpers: the helpers that this network needs, in order, with their substitutions.
        imports: groups of import lines and the names that each may import. Names that do not occur
            in this network are omitted, and so are lines without any.
        methods: templates of further methods of the network's class, with their substitutions.
        limits: what this network can't be used for, for the end of the file's docstring.
        below: further helpers, which follow the network: how it is computed, not what. Nothing may
            need them while the file is imported but each other.
    """

    def render(template: str, **values: object) -> str:
        return templates.get_template(f"{template}.py.jinja").render(**values).strip("\n")

    definitions = "\n\n\n".join(
        [
            *(render(helper, **values) for helper, values in helpers.items()),
            *(render("class", **class_values(each, speller)) for each in view.classes),
            "\n\n".join(
                [
                    render("network", **network_values(view, speller)),
                    *(render(name, **values) for name, values in methods.items()),
                ]
            ),
            *[_HEADING] * bool(below),
            *(render(helper, **values) for helper, values in below.items()),
        ]
    )
    used = ["\n".join(_used(group, definitions)) for group in imports]
    references = [*map(paragraph, view.references), ""] if view.references else []
    closing = ["", paragraph(limits)] if limits else []
    file = render(
        "model",
        doc=paragraph(f'"""{view.doc}'),
        header="\n".join([*references, *view.header, *closing]),
        imports="\n\n".join([*[_POSTPONED] * bool(below), *filter(None, used)]),
        class_name=view.class_name,
        definitions=definitions,
    )
    return f"{file}\n"


def _used(imports: Imports, text: str) -> Iterator[str]:
    for line, names in imports.items():
        occurring = [name for name in names if re.search(rf"\b{name}\b", text)]
        if occurring:
            yield line.format(", ".join(occurring))


def class_values(view: ClassView, speller: Speller) -> dict[str, str]:
    """Return the substitutions of a class's template."""
    widths = [f"{width}: {'float' if width.startswith(RATE) else 'int'}" for width in view.widths]
    widths += [f"{stride}: int = 1" for stride in view.strides]
    returned = speller.returns(view.body.kinds)
    return {
        "name": view.name,
        "doc": docstring(view.doc, 1),
        "init": method("__init__", [*widths, *speller.init_inputs(view)], "None"),
        "members": speller.members(view.groups, 2, speller.kept(view)),
        "call": method(speller.call_method, map(speller.parameter, view.inputs), returned),
        "body": speller.body(view.body, 2),
    }


def network_values(view: ModelView, speller: Speller) -> dict[str, str]:
    """Return the substitutions of the template of the network's class."""
    trunk = view.gather or view.features
    source = "gather" if view.gather else "forward_features"
    return {
        "name": view.class_name,
        "doc": docstring(view.doc, 1),
        "classes": str(view.classes_default),
        "members": speller.members(view.groups, 2),
        "input": view.input_name,
        "logits": f"({view.stages} stages, batch, num_classes)"
        if view.stages
        else "(batch, num_classes)",
        "methods": "\n\n".join(_feature_methods(view, speller)),
        "unpacking": _unpack_results(trunk.returns, view.logits.reads, source, view),
        "logits_body": speller.body(view.logits, 2),
    }


def _feature_methods(view: ModelView, speller: Speller) -> Iterator[str]:
    """The methods from images to block features: one, or two if there are lists in between.

    And one that returns each version of each layer.
    """
    inputs = [f"{view.input_name}: {speller.tensor}"]
    recording = [*inputs, f"{VERSIONS}: dict[str, dict[str, {speller.tensor}]] | None = None"]
    images = f"images are {speller.shape(*view.input_shape)}"
    enter = speller.enter(view.input_name)
    first = [*([indent(enter, INDENT * 2)] if enter else [])]
    trunk, doc = view.features, f"Return the block features, first to last; {images}."
    if view.gather is not None:
        trunk = view.gather
        what = "the maps of each block feature as lists"
        if view.stages:
            what = f"what the block features and the readouts of {view.stages} stages are made of"
        yield _method(
            method("gather", recording, speller.returns(trunk.kinds, always_tuple=True)),
            docstring(f"Return {what}; {images}.", 2),
            *first,
            speller.body(trunk, 2, always_tuple=True),
        )
        used = view.features.reads | set(view.features.returns)
        first = [_unpack_results(trunk.returns, used, "gather", view)]
    given = recording if view.gather is None else inputs
    yield _method(
        method("forward_features", given, speller.returns(view.features.kinds, always_tuple=True)),
        docstring(doc, 2),
        *first,
        speller.body(view.features, 2, always_tuple=True),
    )

    yield _activations(view, speller, "gather" if view.gather else "forward_features", inputs)


def _activations(view: ModelView, speller: Speller, source: str, inputs: Sequence[str]) -> str:
    blocks = [name for name in view.children if name.startswith(Part.BLOCK)]
    kind = f"dict[str, {speller.tensor}]"
    doc = "Return each version of each layer by its name, ``block1.X2@1``, and each block's X0."
    empty = f'{{f"block{{b}}": {{}} for b in range(1, {len(blocks) + 1})}}'
    named = 'f"{b}.{name}": maps'
    loops = f"for b, each in {VERSIONS}.items() for name, maps in each.items()"
    return _method(
        method("activations", inputs, kind),
        docstring(doc, 2),
        f"{INDENT * 2}{VERSIONS}: dict[str, {kind}] = {empty}",
        f"{INDENT * 2}self.{source}({view.input_name}, {VERSIONS})",
        f"{INDENT * 2}return {{{named} {loops}}}",
    )


def _method(*parts: str) -> str:
    return "\n".join(parts)


def _unpack_results(
    names: Sequence[str], used: Collection[str], source: str, view: ModelView
) -> str:
    targets = [name if name in used else "_" for name in names]
    value = f"self.{source}({view.input_name})"
    *others, last = targets
    if others and last != "_" and set(others) == {"_"}:
        return f"{INDENT * 2}{last} = {value}[-1]"
    return "\n".join(unpacking(targets, value))


def unpacking(targets: Sequence[str], value: str) -> list[str]:
    """Return the assignment of a tuple to variables, in brackets if it is too long for a line."""
    flat = f"({targets[0]},)" if len(targets) == 1 else ", ".join(targets)
    lines = layout(Text(flat), suffix=f" = {value}", depth=2)
    if len(lines[0]) <= WIDTH:
        return lines
    return layout(Bracket("(", tuple(map(Text, targets)), ")"), suffix=f" = {value}", depth=2)


def method(name: str, inputs: Iterable[str], returned: str) -> str:
    """Return the first lines of a method, laid out."""
    signature = Bracket(f"{name}(", (Text("self"), *map(Text, inputs)), ")")
    return "\n".join(layout(signature, prefix="def ", suffix=f" -> {returned}:", depth=1))
