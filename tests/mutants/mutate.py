"""The mutants of a file: one small change each, by the operators of mutmut and a few more.

mutmut itself leaves out functions with a decorator (properties, the units and schedules that are
registered by kind) and whatever stands outside of functions: a quarter of these folders. So its
operators are applied here to every node of a file but annotations, docstrings, decorators and
imports; and those that it lacks:

1. a condition that is turned round;
2. a bound of a slice that is lost, or moved by one;
3. an index that is moved by one;
4. an attribute that is taken for its neighbour: the stage for the layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

from tests.mutants.mutant import Function, Mutant, digest, numbered

_SKIPPED = (
    cst.Annotation,
    cst.Decorator,
    cst.Import,
    cst.ImportFrom,
    cst.TypeAlias,
    cst.Assert,  # says what can't be otherwise
)

# Indices that are whole numbers. What else is an index is a key: moved by one it is an error of
# types, which any test that comes by would notice.
_INDICES = frozenset(
    {"at", "axis", "block", "i", "index", "k", "layer", "position"}
    | {"source", "stage", "feature_stage", "target", "transit_stage"}
)

# Both of a pair are on every class of the core that has one, and mean things of the same type:
# else a swap would be an error that any test that comes by would notice.
_PAIRS = (
    *(("stage", "layer"), ("source", "target"), ("start", "stop"), ("height", "width")),
    *(("inputs", "outputs"), ("feature", "transit"), ("feature_stage", "transit_stage")),
)
_NEIGHBOURS = dict(_PAIRS) | {second: first for first, second in _PAIRS}
# By the name of the owner, where that is not so.
_NEIGHBOURS_OF: dict[tuple[str, str], str | None] = {
    ("slot", "source"): "layer",  # of a weight, its target
    ("graph", "outputs"): "features",
    ("view", "inputs"): None,
}


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Return every mutant of a file, in the order of its lines."""
    return numbered(_mutants_of(file))


def _mutants_of(file: Path) -> Iterator[Mutant]:
    text = file.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    places = wrapper.resolve(PositionProvider)
    lines = text.splitlines()
    seen = {text}
    module = wrapper.module
    code = module.code_for_node
    begin = "".join(map(code, module.header))
    for statement in module.body:
        # One statement is written anew for each of its mutants: the file would take twice as long.
        end = text[len(begin) + len(code(statement)) :]
        for node, function in _nodes(statement, places):
            within = digest(_text(lines, function) if function else code(statement))
            for changed in _changes(node):
                source = begin + code(statement.deep_replace(node, changed)) + end
                if source in seen:
                    continue
                seen.add(source)
                line, before, after = _difference(lines, source.splitlines())
                yield Mutant(file, line, before, after, source, function, within)
        begin += code(statement)


def _nodes(statement, places) -> Iterator[tuple[cst.CSTNode, Function | None]]:
    """The nodes that may be changed, each with the outermost function around it."""

    def walk(node, classes, function):
        if isinstance(node, _SKIPPED) or _is_docstring(node) or _is_for_checkers(node):
            return
        if isinstance(node, cst.FunctionDef) and function is None:
            first = node.decorators[0] if node.decorators else node
            name = ".".join([*classes, node.name.value])
            inside = (name, places[first].start.line, places[node].end.line)
            # What a default is worth is decided when the function is defined.
            yield from walk(node.params, classes, None)
            yield from walk(node.body, classes, inside)
            return
        if isinstance(node, cst.ClassDef):
            yield from walk(node.body, [*classes, node.name.value], function)
            return
        yield node, function
        for child in node.children:
            yield from walk(child, classes, function)

    yield from walk(statement, [], None)


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from operator(node)
    if isinstance(node, cst.If | cst.While):
        yield node.with_changes(test=_not(node.test))
    if isinstance(node, cst.CompIf):
        yield node.with_changes(test=_not(node.test))
    if isinstance(node, cst.Slice):
        for bound in ("lower", "upper"):
            if (value := getattr(node, bound)) is not None:
                yield node.with_changes(**{bound: None})
                for moved in _moved(value):
                    yield node.with_changes(**{bound: moved})
    if isinstance(node, cst.Index) and _name(node.value) in _INDICES:
        for moved in _moved(node.value):
            yield node.with_changes(value=moved)
    if isinstance(node, cst.Attribute):
        name = node.attr.value
        other = _NEIGHBOURS_OF.get((_name(node.value), name), _NEIGHBOURS.get(name))
        if other:
            yield node.with_changes(attr=cst.Name(other))


def _moved(value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """A number, one more and one less; mutmut itself changes literals and what is added to."""
    if isinstance(value, cst.Name | cst.Attribute | cst.Call | cst.Subscript):
        for sign in (cst.Add(), cst.Subtract()):
            yield cst.BinaryOperation(value, sign, cst.Integer("1"))


def _name(value: cst.BaseExpression) -> str:
    """The last part of a dotted name."""
    value = value.attr if isinstance(value, cst.Attribute) else value
    return value.value if isinstance(value, cst.Name) else ""


def _text(lines: list[str], function: Function) -> str:
    _, first, last = function
    return "\n".join(lines[first - 1 : last])


def _not(test: cst.BaseExpression) -> cst.UnaryOperation:
    inner = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.UnaryOperation(cst.Not(), inner)


def _is_docstring(node: cst.CSTNode) -> bool:
    return (
        isinstance(node, cst.SimpleStatementLine)
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, cst.SimpleString | cst.ConcatenatedString)
    )


def _is_for_checkers(node: cst.CSTNode) -> bool:
    """``if TYPE_CHECKING:`` is never executed."""
    return (
        isinstance(node, cst.If)
        and isinstance(node.test, cst.Name)
        and node.test.value == "TYPE_CHECKING"
    )


def _difference(old: list[str], new: list[str]) -> tuple[int, str, str]:
    """The first line that differs, and what became of it."""
    for number, (before, after) in enumerate(zip(old, new, strict=False), start=1):
        if before != after:
            return number, before.strip(), after.strip()
    return len(old), old[-1].strip(), ""
