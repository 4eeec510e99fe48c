"""The mutants of a file: one small change each, by the operators of mutmut.

mutmut itself leaves out functions with a decorator (properties, the units and schedules that are
registered by kind) and whatever stands outside of functions: a quarter of these folders. So its
operators are applied here to every node of a file but annotations, docstrings, decorators and
imports; and two that it lacks: a condition that is turned round, a bound of a slice that is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

_SKIPPED = (
    cst.Annotation,
    cst.Decorator,
    cst.Import,
    cst.ImportFrom,
    cst.TypeAlias,
    cst.Assert,  # says what can't be otherwise
)


Function = tuple[str, int, int]
Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    ``function`` is the outermost one around the change, by its qualified name and its first and
    last line; None where the change takes effect when the file is imported. ``nth`` counts the
    changes of a function that look alike.
    """

    file: Path
    line: int
    before: str
    after: str
    source: str
    function: Function | None
    nth: int

    @property
    def key(self) -> Key:
        """What it is called, wherever in the file its function stands."""
        name = self.function[0] if self.function else ""
        return str(self.file), name, self.before, self.after, self.nth

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  →  {self.after}"


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file, in the order of its lines."""
    text = file.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    places = wrapper.resolve(PositionProvider)
    lines = text.splitlines()
    seen = {text}
    alike: Counter[tuple[str, str, str]] = Counter()
    module = wrapper.module
    code = module.code_for_node
    begin = "".join(map(code, module.header))
    for statement in module.body:
        # One statement is written anew for each of its mutants: the file would take twice as long.
        end = text[len(begin) + len(code(statement)) :]
        for node, function in _nodes(statement, places):
            for changed in _changes(node):
                source = begin + code(statement.deep_replace(node, changed)) + end
                if source in seen:
                    continue
                seen.add(source)
                line, before, after = _difference(lines, source.splitlines())
                name = function[0] if function else ""
                nth = alike[name, before, after]
                alike[name, before, after] += 1
                yield Mutant(file, line, before, after, source, function, nth)
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
            if getattr(node, bound) is not None:
                yield node.with_changes(**{bound: None})


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
