"""Mutants of a generated file: one change each of the code that a call of the model executes.

What is left out here has no part in what a model computes from its tensors: initial weights,
``compile_steps``, and annotations.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

_NOT_EXECUTED = ("kernel_bank", "init_weights", "activations", "compile_steps")

_NUMBERED = re.compile(r"([a-z]+)(\d+)(?:_(\d+))?$")

_STOPS = {
    "torch": """

def _stopped(value):
    if isinstance(value, Tensor):
        return value.detach()
    parts = [_stopped(each) for each in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
""",
    "flax": """

def _stopped(value):
    return jax.tree.map(lax.stop_gradient, value)
""",
}

_ROLL = {"torch": "torch.roll({}, 1, {})", "flax": "jnp.roll({}, 1, {})"}


@dataclass(frozen=True)
class Edit:
    """A change of a file: a part of its text that is replaced.

    Attributes:
        kind: what is changed.
        line: the line of the file.
        before: the part.
        after: what replaces it.
        within: the method or function, ``Update.forward``.
        source: the whole file with the change.
    """

    kind: str
    line: int
    before: str
    after: str
    within: str
    source: str

    def __str__(self) -> str:
        return f"{self.within}, line {self.line}: {self.kind}: {self.before}  →  {self.after}"


def edits(source: str, backend: str) -> Iterator[Edit]:
    """Every mutant of a file, each once."""
    seen = {source}
    for edit in _Edits(source, backend).all():
        if edit.source not in seen:
            seen.add(edit.source)
            yield edit


class _Edits:
    def __init__(self, source: str, backend: str) -> None:
        self._source, self._backend = source, backend
        self._bytes = source.encode()
        self._within = ""
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def all(self) -> Iterator[Edit]:
        for node in ast.parse(self._source).body:
            if isinstance(node, ast.FunctionDef):
                self._within = node.name
                yield from self._function(node, {})
            elif isinstance(node, ast.ClassDef):
                members = _members(node)
                for each in node.body:
                    if isinstance(each, ast.FunctionDef):
                        self._within = f"{node.name}.{each.name}"
                        yield from self._function(each, members)

    def _function(self, function: ast.FunctionDef, members: dict[str, list[str]]) -> Iterator[Edit]:
        if function.name in _NOT_EXECUTED:
            return
        default = [*function.args.defaults, *function.args.kw_defaults]
        body = [*(each for each in default if each), *function.body]
        if function.name == "__init__":
            for statement in body:
                yield from self._numbers(statement)
            return
        names = _locals(function)
        for statement in body:
            for node in _nodes(statement):
                yield from self._of(node, names, members)
            yield from self._numbers(statement)

    def _of(self, node: ast.AST, names: list[str], members: dict[str, list[str]]) -> Iterator[Edit]:
        match node:
            case ast.Expr(ast.Constant()):
                return
            case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.Return() | ast.Raise():
                yield self._edit("line left out", node, "pass")
                if isinstance(node, ast.Assign | ast.Return) and node.value is not None:
                    yield self._stop(node.value)
            case ast.Name(name, ast.Load()) if name in names:
                yield self._stop(node)
                for other in _others(name, names):
                    yield self._edit("another version", node, other)
            case ast.Attribute(ast.Name("self"), name) if name in members:
                for other in members[name]:
                    yield self._edit("another member", node, f"self.{other}")
                yield self._stop(node)
            case ast.Subscript(value, index):
                yield from self._slices(node, value, index)
            case ast.List(elements) | ast.Tuple(elements, ast.Load()):
                yield from self._elements(node, elements)
            case ast.Call():
                yield from self._call(node)
            case ast.BinOp(left, op, right):
                yield self._edit("operator", node, f"({self._text(left)})")
                yield self._edit("operator", node, f"({self._text(right)})")
                opposite = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
                if sign := opposite.get(type(op)):
                    other = f"{self._text(left)} {sign} {self._text(right)}"
                    yield self._edit("operator", node, f"({other})")
            case ast.UnaryOp(_, operand):
                yield self._edit("operator", node, self._text(operand))
            case ast.IfExp(_, one, other):
                yield self._edit("condition", node, self._text(one))
                yield self._edit("condition", node, self._text(other))
            case ast.If(test):
                yield self._edit("condition", test, f"not ({self._text(test)})")

    def _numbers(self, statement: ast.AST) -> Iterator[Edit]:
        for node in _nodes(statement):
            if not isinstance(node, ast.Constant):
                continue
            number = node.value
            if isinstance(number, bool):
                yield self._edit("number", node, repr(not number))
            elif isinstance(number, int):
                yield self._edit("number", node, repr(number + 1))
                yield self._edit("number", node, f"({number - 1})")
            elif isinstance(number, float):
                yield self._edit("number", node, repr(number * (1 + 1e-6) or 1e-6))

    def _slices(self, node: ast.AST, value: ast.expr, index: ast.expr) -> Iterator[Edit]:
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        for axis, part in enumerate(parts):
            if not isinstance(part, ast.Slice):
                continue
            for bound, rest in ((part.lower, part.upper), (part.upper, part.lower)):
                if bound is not None:
                    kept = "" if rest is None else self._text(rest)
                    text = f"{kept}:" if rest is part.lower else f":{kept}"
                    yield self._edit("slice", part, text)
                    whole, own = self._text(node), self._text(value)
                    rolled = _ROLL[self._backend].format(own, axis)
                    yield self._edit("slice", node, rolled + whole.removeprefix(own))

    def _elements(self, node: ast.expr, elements: list[ast.expr]) -> Iterator[Edit]:
        if len(elements) < 2 or all(isinstance(each, ast.Constant) for each in elements):
            return
        if any(isinstance(each, ast.Slice) for each in elements):
            return
        texts = [self._text(each) for each in elements]
        for i, text in enumerate(texts):
            if len(elements) > 2 or isinstance(node, ast.List):
                yield self._list("element left out", node, [*texts[:i], *texts[i + 1 :]])
            other = texts[(i + 1) % len(texts)]
            if other != text:
                yield self._list("element twice", node, [*texts[:i], other, *texts[i + 1 :]])
        for i, (one, other) in enumerate(pairwise(texts)):
            if one != other:
                yield self._list("order", node, [*texts[:i], other, one, *texts[i + 2 :]])

    def _call(self, node: ast.Call) -> Iterator[Edit]:
        if isinstance(node.func, ast.Name) and node.func.id in ("ValueError", "isinstance"):
            return
        own, arguments = self._text(node.func), [*node.args, *node.keywords]
        texts = [self._text(each) for each in arguments]
        for i, argument in enumerate(arguments):
            if isinstance(argument, ast.keyword):
                kept = ", ".join([*texts[:i], *texts[i + 1 :]])
                yield self._edit("argument left out", node, f"{own}({kept})")
        if node.args:
            yield self._edit("call left out", node, texts[0].removeprefix("*"))
        elif isinstance(node.func, ast.Attribute):
            yield self._edit("call left out", node, self._text(node.func.value))
        if node.args and isinstance(node.func, ast.Attribute):
            target = node.func.value
            if not (isinstance(target, ast.Name) and target.id in ("F", "nnx", "jnp", "lax")):
                yield self._edit("call left out", node, self._text(target))
        for i, (one, other) in enumerate(pairwise(node.args)):
            if not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred):
                swapped = [*texts[:i], texts[i + 1], texts[i], *texts[i + 2 :]]
                yield self._edit("order", node, f"{own}({', '.join(swapped)})")

    def _list(self, kind: str, node: ast.expr, texts: list[str]) -> Edit:
        inner = ", ".join(texts)
        if isinstance(node, ast.List):
            return self._edit(kind, node, f"[{inner}]")
        return self._edit(kind, node, f"({inner}{',' if len(texts) == 1 else ''})")

    def _stop(self, node: ast.expr) -> Edit:
        text = self._text(node)
        inner = f"({text})" if isinstance(node, ast.Tuple) else text
        edit = self._edit("gradient stopped", node, f"_stopped({inner})")
        return replace(edit, source=edit.source + _STOPS[self._backend])

    def _edit(self, kind: str, node: ast.AST, text: str) -> Edit:
        start, end = self._span(node)
        source = (self._bytes[:start] + text.encode() + self._bytes[end:]).decode()
        line: int = node.lineno  # type: ignore[attr-defined]
        return Edit(kind, line, self._text(node), text, self._within, source)

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._bytes[start:end].decode()

    def _span(self, node: ast.AST) -> tuple[int, int]:
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end


def _nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """A statement's nodes without annotations and the names of other functions."""
    if isinstance(statement, ast.JoinedStr):
        return
    yield statement
    for name, field in ast.iter_fields(statement):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for each in field if isinstance(field, list) else [field]:
            if isinstance(each, ast.AST):
                yield from _nodes(each)


def _members(node: ast.ClassDef) -> dict[str, list[str]]:
    """For each attribute of a module others of its kind: of another stage, layer or place."""
    names = []
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            names.append(each.attr)
    names = list(dict.fromkeys(names))
    return {name: _others(name, names) for name in names}


def _locals(function: ast.FunctionDef) -> list[str]:
    names = [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
    return [name for name in dict.fromkeys(names) if name not in ("self", "ctx", "versions")]


def _others(name: str, names: list[str]) -> list[str]:
    """Another stage and the neighbour layers of a numbered name, else the next name."""
    found = _NUMBERED.match(name)
    if found is None:
        place = names.index(name)
        plain = [each for each in names if not _NUMBERED.match(each)]
        return (
            [plain[(plain.index(name) + 1) % len(plain)]] if len(plain) > 1 and place >= 0 else []
        )
    letters, layer, stage = found[1], int(found[2]), found[3]
    if stage is None:
        wanted = [f"{letters}{layer + 1}", f"{letters}{layer - 1}"]
    else:
        at = int(stage)
        wanted = [f"{letters}{layer}_{each}" for each in (at - 1, at + 1)]
        wanted += [f"{letters}{each}_{at}" for each in (layer - 1, layer + 1)]
    return [each for each in wanted if each in names and each != name]
