"""Translation of pydantic's validation errors into diagnostics in terms of the spec language.

Expected values are derived from the JSON Schema of the models, so a message can't disagree with
the rule it reports.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic
from cliquegraph.diagnostics.location import Location
from cliquegraph.spec.document import MAX_ERRORS, Document
from cliquegraph.spec.figure import FIGURE_PATTERN
from cliquegraph.spec.network import CLASS_PATTERN, NAME_PATTERN, NetworkSpec
from cliquegraph.spec.ops import TIMES_PATTERN
from cliquegraph.spec.schema import LABEL_PATTERN, LANGUAGE_VERSION, Path
from cliquegraph.spec.shorthand import KEY as DEFAULTS
from cliquegraph.spec.wording import describe_value, dotted, listing

Node = Mapping[str, Any]
"""A part of a JSON Schema."""

PATTERNS = {
    NAME_PATTERN: "lowercase letters, digits and underscores, starting with a letter",
    CLASS_PATTERN: "letters and digits, starting with a capital letter",
    FIGURE_PATTERN: "a figure such as 14.38M",
    LABEL_PATTERN: "letters, digits and underscores, starting with a letter",
    TIMES_PATTERN: "a factor such as x4",
}

SECTION = "a section (keys with values)"

_ITEMS = {"integer": "integers", "number": "numbers"}

YAML_1_1_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def diagnose(error: ValidationError, document: Document) -> list[Diagnostic]:
    """Return the errors in ``document`` other than those its parser has recorded.

    Args:
        error: pydantic's error.
        document: the parsed document.
    """
    return _to_diagnostics(_schema_errors(error, document))


def diagnose_defaults(failures: Sequence[tuple[ValidationError, Document]]) -> list[Diagnostic]:
    """Return the errors in ``block_defaults`` that occur in each of several documents.

    Args:
        failures: pydantic's error for each document, and the document.
    """
    errors = [[f for f in _schema_errors(*each) if f.is_of_a_default] for each in failures]
    rejected = [{f.origin for f in each} for each in errors]
    return _to_diagnostics(
        f for each in errors for f in each if all(f.origin in other for other in rejected)
    )


def _schema_errors(error: ValidationError, document: Document) -> list[_SchemaError]:
    errors = [
        _SchemaError(part, document)
        for whole in error.errors(include_url=False)
        for part in _split_rules(whole)
    ]
    # pydantic counts valid items only, so an invalid one also makes a list too short.
    return [f for f in errors if (f.type != "too_short" or not f.value) and not f.rejected]


def _split_rules(error: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Split a validator's error about several keys."""
    if error["type"] != "spec_rules":
        return [error]
    return [{**error, "type": "spec_rule", "ctx": rule} for rule in error["ctx"]["rules"]]


def _to_diagnostics(errors: Iterable[_SchemaError]) -> list[Diagnostic]:
    # Twice as many as are shown, since up to half of them are duplicates of another one.
    errors = sorted(errors, key=lambda f: _place(f.where, f.document.positions[()].file))[
        : 2 * (MAX_ERRORS + 1)
    ]
    # A misspelled key is one error, not an unknown key and a missing one.
    meant = {(*f.path[:-1], f.nearest) for f in errors if f.type == "extra_forbidden"}
    return [f.diagnostic() for f in errors if f.type != "missing" or f.path not in meant]


def in_order(errors: Iterable[Diagnostic], file: str) -> list[Diagnostic]:
    """Return the first errors in the order of a file; those in overrides come last."""
    # The branches of a union and the blocks that share a default repeat a message.
    shown = list(dict.fromkeys(sorted(errors, key=lambda f: _place(f.location, file))))
    more = Diagnostic(Code.MORE, "there are more errors than shown", Location(file))
    return [*shown[:MAX_ERRORS], more] if len(shown) > MAX_ERRORS else shown


def _place(where: Location | None, file: str) -> tuple[bool, int, int]:
    return (False, 0, 0) if where is None else (where.file != file, where.line, where.column)


class _SchemaError:
    """One error of pydantic, mapped to the file."""

    def __init__(self, error: Mapping[str, Any], document: Document) -> None:
        self.type: str = error["type"]
        self.context: Mapping[str, Any] = error.get("ctx", {})
        self.document = document
        # A rule of a whole section points to a path below it, a rule of one value to the value.
        self.below: Path = self.context["path"] if self.type == "spec_rule" else ()
        self.path, self.node = _follow((*_without_tag(error["loc"]), *self.below), document)
        if self.type.startswith("union_tag"):
            self.path = (*self.path, "kind")
            self.node = {"enum": list(self.node["discriminator"]["mapping"])}

    @property
    def origin(self) -> Path:
        """The path in the file."""
        return self.document.origin(self.path)

    @property
    def where(self) -> Location | None:
        """The location of the error: an unknown key itself, else the nearest value."""
        if self.type == "extra_forbidden":
            return self.document.keys.get(self.origin)
        return self.document.locate(self.path[:-1] if self.type == "missing" else self.path)

    @property
    def rejected(self) -> bool:
        """Whether the parser has already recorded an error at or around this path."""
        written = self.origin
        return any(written[: len(path)] == path for path, _ in self.document.rejected)

    @property
    def is_of_a_default(self) -> bool:
        """Whether a default is wrong by itself, not in combination with a block's own keys."""
        return self.origin[:1] == (DEFAULTS,) and not self.below

    @property
    def value(self) -> Any:
        """The value in the file, or None."""
        return self.document.at(self.path)

    @property
    def keys(self) -> list[str]:
        """The valid keys of the enclosing section."""
        _, section = _follow(self.path[:-1], self.document)
        keys = list(_inside(section, self.document.at(self.path[:-1])).get("properties", ()))
        return [*keys, DEFAULTS] if len(self.path) == 1 else keys

    @property
    def nearest(self) -> str | None:
        """The valid key closest to an unknown one."""
        close = difflib.get_close_matches(str(self.path[-1]), self.keys, 1)
        return close[0] if close else None

    def diagnostic(self) -> Diagnostic:
        """Return the diagnostic."""
        if self.type == "extra_forbidden":
            return self._unknown()
        if self.type == "missing":
            return self._missing()
        subject = dotted(self.origin)
        if self.type == "spec_rule":
            message = f"{subject}: {self.context['message']}"
            return Diagnostic(self.context["code"], message, self.where, self.context["hint"])
        message = f"{subject}: expected {_expected(self.node)}, found {describe_value(self.value)}"
        if maximum := self._exceeded():
            return Diagnostic(Code.OVER_LIMIT, message, self.where, maximum)
        return Diagnostic(Code.WRONG_VALUE, message, self.where, _hint_for(self.node, self.value))

    def _exceeded(self) -> str | None:
        """Return which constant sets the maximum that a number exceeds, or None."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            return None  # such maxima exist for integers only
        for branch in _branches(self.node):
            if self.value > branch.get("maximum", math.inf):
                return branch.get("$comment")
        return None

    def _unknown(self) -> Diagnostic:
        message = f"{self._section()}unknown key {describe_value(self.path[-1])}"
        if self.path[0] == "blocks" and len(self.path) == 3:
            message += f" in a {self.document.at((*self.path[:2], 'kind'))} block"
        hint = f"valid keys are {listing(self.keys)}"
        if self.nearest:
            hint = f"did you mean {self.nearest!r}?"
        if self.origin[0] == DEFAULTS and (kinds := _kinds_with(self.path[-1])):
            owner = listing(kinds, "or")
            hint = f"{DEFAULTS} with 'kind: {owner}' apply only to blocks of that kind"
        return Diagnostic(Code.UNKNOWN_KEY, message, self.where, hint)

    def _missing(self) -> Diagnostic:
        key, expected = describe_value(self.path[-1]), _expected(self.node)
        message = f"{self._section()}missing key {key}: expected {expected}"
        hint = None
        if self.path == ("cliquegraph",):
            hint = f"start the file with 'cliquegraph: {LANGUAGE_VERSION}'"
        return Diagnostic(Code.MISSING_KEY, message, self.where, hint)

    def _section(self) -> str:
        """Return the enclosing section as the prefix of a message; empty for the whole spec."""
        section = self.origin[:-1]
        return f"{dotted(section)}: " if section else ""


@cache
def _schema() -> Node:
    return NetworkSpec.model_json_schema()


def _kinds_with(key: str | int) -> list[str]:
    """Return the kinds of blocks that have a key."""
    kinds = _schema()["properties"]["blocks"]["items"]["discriminator"]["mapping"]
    return [
        kind for kind, ref in kinds.items() if key in _inside({"$ref": ref}, None)["properties"]
    ]


def _without_tag(loc: Path) -> Path:
    """Drop what pydantic puts into a location for a union's branch: a block's kind, a ``<tag>``."""
    loc = loc[:2] + loc[3:] if loc[:1] == ("blocks",) else loc
    return tuple(
        part for part in loc if not (isinstance(part, str) and part[:1] + part[-1:] == "<>")
    )


def _follow(loc: Path, document: Document) -> tuple[Path, Node]:
    """Follow a location through the schema, but not into the branches of a union."""
    node: Node = _schema()
    for depth, part in enumerate(loc):
        inner = _inside(node, document.at(loc[:depth]))
        if "properties" in inner:
            node = inner["properties"].get(part, {})
        elif isinstance(part, int) and part < len(inner.get("prefixItems", ())):
            node = inner["prefixItems"][part]
        elif "items" in inner:
            node = inner["items"]
        else:
            return loc[:depth], node
    return loc, node


def _inside(node: Node, value: object) -> Node:
    """Return the schema that has the keys of a section or the items of a list."""
    if "$ref" in node:
        target: Node = _schema()["$defs"][node["$ref"].rpartition("/")[2]]
        return target
    if "discriminator" in node:
        kind = str(value.get("kind")) if isinstance(value, dict) else None
        kinds = node["discriminator"]["mapping"]
        return _inside({"$ref": kinds[kind]}, value) if kind in kinds else {}
    branches = [branch for branch in _branches(node) if branch.get("type") != "null"]
    if branches != [node] and (branch := _meant(branches, value)) is not None:
        return _inside(branch, value)
    return node


def _meant(branches: Sequence[Node], value: object) -> Node | None:
    """Return the branch of a union that a value is meant for."""
    if isinstance(value, list | tuple):
        lists = [each for each in branches if each.get("type") == "array"]
        pairs = [each for each in lists if len(each.get("prefixItems", ())) == len(value)]
        return next(iter([*pairs, *lists]), None)
    sections = [each for each in branches if "$ref" in each]
    if isinstance(value, dict):
        for each in sections:
            required = set(_inside(each, value).get("required", ()))
            if required and required <= value.keys():
                return each
        return sections[-1] if sections else None  # what has no key of its own comes last
    return sections[0] if len(sections) == 1 else None


def _expected(node: Node) -> str:
    """Describe the values that a schema allows."""
    if (branches := list(_branches(node))) != [node]:
        branches = [b for b in branches if b.get("type") != "null"]
        return ", or ".join(dict.fromkeys(_expected(branch) for branch in branches))
    if "enum" in node:
        return listing([describe_value(value) for value in node["enum"]], "or")
    if "const" in node:
        return describe_value(node["const"])
    if "pattern" in node:
        return PATTERNS[node["pattern"]] + _size(node, "Length")
    match node.get("type"):
        case "integer":
            even = node.get("multipleOf") == 2
            return ("an even integer" if even else "an integer") + _bounds(node)
        case "number":
            return "a number" + _bounds(node)
        case "boolean":
            return "true or false"
        case "array" if node.get("maxItems") == 0:
            return "[]"
        case "array" if "prefixItems" in node:
            return f"a list of {len(node['prefixItems'])} {_ITEMS[node['prefixItems'][0]['type']]}"
        case "array":
            items = _ITEMS.get(node["items"].get("type"), "sections")
            return f"a list of {items}" + _size(node, "Items")
        case "string":
            return "a string"
    return SECTION


def _bounds(node: Node) -> str:
    low = [(" of at least", node.get("minimum")), (" above", node.get("exclusiveMinimum"))]
    high = [(" at most", node.get("maximum")), (" below", node.get("exclusiveMaximum"))]
    limits = [f"{word} {bound}" for word, bound in (*low, *high) if bound is not None]
    return " and".join(limits)


def _size(node: Node, suffix: str) -> str:
    words = {"min": "at least", "max": "at most"}
    bounds = [f"{word} {node[end + suffix]}" for end, word in words.items() if end + suffix in node]
    return f", {listing(bounds)} of them" if bounds else ""


def _hint_for(node: Node, value: object) -> str | None:
    """Return a hint for a value that is almost right."""
    if value is None and _expected(node) == SECTION:
        return "write its keys, or remove the line"
    if not isinstance(value, str):
        return None
    choices = [str(choice) for branch in _branches(node) for choice in branch.get("enum", ())]
    if close := difflib.get_close_matches(value, choices, 1):
        return f"did you mean {close[0]!r}?"
    types = {branch.get("type") for branch in _branches(node)}
    if "boolean" in types and value.lower() in YAML_1_1_BOOLEANS:
        return f"write {YAML_1_1_BOOLEANS[value.lower()]}"
    if types & {"integer", "number"} and value.isdecimal() and value.isascii():
        return f"write {value} without quotes"
    return None


def _branches(node: Node) -> Iterable[Node]:
    """The branches of a union, and of those nested in it; a schema that is none is its own."""
    if "discriminator" in node or not (branches := node.get("anyOf", node.get("oneOf"))):
        yield node
        return
    for branch in branches:
        yield from _branches(branch)
