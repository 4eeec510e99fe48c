"""Parsing of text into plain data with the location of every key and value.

The language is YAML 1.2 with its core schema, and JSON as a subset. The parser's events are read
directly: a syntax tree would have every alias expanded, and building one recurses as deep as the
file nests. Features that specs don't use (anchors, tags, keys that are not strings, several
documents) are rejected here, so that the rest of the loader sees only dictionaries with string
keys, lists, strings, finite numbers, booleans and None.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.diagnostics.location import Location
from cliquegraph.spec.schema import Path, set_by
from cliquegraph.spec.wording import describe_value, dotted

MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 50
MAX_VALUES = 10_000
MAX_DIGITS = 30
MAX_ERRORS = 50

WORDS = {
    "<block end>": "the next entry in its column",
    "'<block mapping start>'": "a key in another column",
    "'<block sequence start>'": "a '-' in another column",
    "'<scalar>'": "a value",
    "'<tag>'": "a tag",
    "'<anchor>'": "an anchor",
    "'<alias>'": "an alias",
    "'<stream end>'": "the end of the text",
    "unexpected end of stream": "the end of the text",
    "the node content": "a value",
    "a block mapping": "a section",
    "a block collection": "a list",
    "a block node": "a value",
    "a flow mapping": "a section in braces",
    "a flow sequence": "a list in brackets",
    "a flow node": "a value",
    "a simple key": "a key",
    "a quoted scalar": "a quoted string",
    "mapping values are": "a ':' is",
    "sequence entries are": "a '-' is",
    "mapping keys are": "a '?' is",
}
"""Plain words for the terms in the parser's messages."""

SAVE_AS = "save it as UTF-8 text"

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|\n|\r")

_NULL = re.compile("|~|null|Null|NULL")
_TRUE = re.compile("true|True|TRUE")
_FALSE = re.compile("false|False|FALSE")
_INTEGER = re.compile("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass
class Document:
    """Plain data, and the location of each part.

    Attributes:
        data: the value of the whole document.
        positions: the location of each value.
        keys: the location of each key of a section.
        written: for values copied from elsewhere, their path in the file.
        rejected: errors in single values and keys, each with its path.
    """

    data: Any
    positions: dict[Path, Location]
    keys: dict[Path, Location]
    written: dict[Path, Path] = field(default_factory=dict)
    rejected: list[tuple[Path, Diagnostic]] = field(default_factory=list)

    def put(self, path: Path, value: Document) -> None:
        """Write a value, with the locations of its parts, into the section or list at ``path``."""
        container, key = self.at(path[:-1]), path[-1]
        if isinstance(self.at(path), dict | list):
            for places in (self.positions, self.keys):
                for inside in [p for p in places if p[: len(path)] == path]:
                    del places[inside]
        container[key] = copy.deepcopy(value.data)
        self.positions.update((path + p, where) for p, where in value.positions.items())
        self.keys.update((path + p, where) for p, where in value.keys.items())

    def at(self, path: Path) -> Any:
        """Return the value at ``path``, or None if there is none."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def origin(self, path: Path) -> Path:
        """Return the path in the file of the value at ``path``."""
        for end in range(len(path), 0, -1):
            if copied := self.written.get(path[:end]):
                return copied + path[end:]
        return path

    def locate(self, path: Path) -> Location | None:
        """Return the location of the nearest enclosing part of ``path`` in the file."""
        written = self.origin(path)
        for end in range(len(written), -1, -1):
            if where := self.positions.get(written[:end]):
                return where
        return None

    def places(self) -> dict[Path, Location]:
        """Return the location of each value, copied ones included."""
        copies = {
            path + inside[len(origin) :]: where
            for path, origin in self.written.items()
            for inside, where in self.positions.items()
            if inside[: len(origin)] == origin
        }
        return self.positions | copies


def parse(text: str, file: str, shown: str | None = None, under: Path = ()) -> Document:
    """Parse one YAML or JSON document; an empty one gives None.

    Parsing continues after a rejected value or key, which is recorded in the document.

    Args:
        text: the document.
        file: its name in messages.
        shown: the text that messages show, if not the document itself.
        under: the path in a spec at which the document will be inserted.

    Raises:
        SpecError: a syntax error after which nothing can be read, or a document over the limits.
    """
    reader = _Reader(text, file, shown, under)
    reader.reject_invalid_text()
    return reader.read()


def _join_surrogates(text: str) -> str:
    """Return a text with each surrogate pair, as JSON escapes it, joined to one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


class _Reader:
    """One pass over the events of a document."""

    def __init__(self, text: str, file: str, shown: str | None, under: Path) -> None:
        self.text = text
        self.file = file
        self.under = under
        self.lines = _LINE_END.split(text if shown is None else shown)
        self.document = Document(None, {}, {})
        self.last: Any = None

    def place(self, line: int, column: int) -> Location:
        """Return the location of a line and column counted from 0."""
        shown = self.lines[line] if line < len(self.lines) else ""
        return Location(self.file, line + 1, column + 1, shown)

    def diagnostic(self, mark: Any, code: Code, message: str, hint: str | None) -> Diagnostic:
        """Return a diagnostic at a mark of the parser."""
        return Diagnostic(code, message, self.place(mark.line, mark.column), hint)

    def fail(self, mark: Any, code: Code, message: str, hint: str | None = None) -> NoReturn:
        """Raise an error after which nothing can be read, with those recorded before it."""
        before = [each for _, each in self.document.rejected]
        raise SpecError([*before, self.diagnostic(mark, code, message, hint)])

    def reject(
        self, path: Path, mark: Any, code: Code, message: str, hint: str | None = None
    ) -> None:
        """Record an error in the value or key at ``path`` and continue."""
        rejected = self.document.rejected
        rejected.append((path, self.diagnostic(mark, code, message, hint)))
        if len(rejected) > MAX_ERRORS:  # further errors would not help
            raise SpecError(each for _, each in rejected)

    def about(self, path: Path, message: str) -> str:
        """Prefix a message with the key it is about, as the messages of the schema are."""
        whole = (*self.under, *path)
        return f"{dotted(whole)}: {message}" if whole else message

    def reject_invalid_text(self) -> None:
        """Reject a text that is too long or has characters that YAML does not allow."""
        if len(self.text) > MAX_CHARACTERS:
            message = f"a spec has at most {MAX_CHARACTERS:,} characters"
            hint = set_by("MAX_CHARACTERS", __name__)
            raise SpecError(Diagnostic(Code.OVER_LIMIT, message, Location(self.file), hint))
        if bad := _UNPRINTABLE.search(self.text):
            before = _LINE_END.split(self.text[: bad.start()])
            where = self.place(len(before) - 1, len(before[-1]))
            message = f"the character U+{ord(bad[0]):04X} is not allowed in a spec"
            advice = SAVE_AS if bad[0] == "\0" else None  # as in UTF-16
            raise SpecError(Diagnostic(Code.NOT_TEXT, message, where, advice))

    def read(self) -> Document:
        """Return the only document of the text."""
        from ruamel.yaml import YAML
        from ruamel.yaml import events as yaml

        self.yaml = yaml
        self.parser = YAML(typ="safe", pure=True)
        self.events = self.parser.parse(self.text)
        self.next_event()
        if isinstance(start := self.next_event(), yaml.StreamEndEvent):
            self.document.positions[()] = self.place(0, 0)
            return self.document
        if start.version not in (None, (1, 2)):
            self.reject_version(start)
        self.document.data = self.value(self.next_event(), ())
        self.next_event()
        if not isinstance(after := self.next_event(), yaml.StreamEndEvent):
            message = "a second document begins here; a file holds one spec"
            self.fail(after.start_mark, Code.SECOND_DOCUMENT, message)
        return self.document

    def reject_version(self, start: Any) -> None:
        """Reject another version of YAML at its own line; the event's mark is after it."""
        numbered = enumerate(self.lines)
        line = next((n for n, text in numbered if text.startswith("%YAML")), start.start_mark.line)
        major, minor = start.version
        message = f"specs are YAML 1.2, but this line declares {major}.{minor}"
        error = Diagnostic(Code.SYNTAX, message, self.place(line, 0), "remove the line")
        self.document.rejected.append((("%YAML",), error))

    def next_event(self) -> Any:
        """Return the parser's next event."""
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            event = next(self.events)
        except MarkedYAMLError as error:
            self.fail_syntax(error)
        except (YAMLError, ValueError, OverflowError):
            # ruamel.yaml does not catch what int() and chr() raise for an escape or a version.
            message = "syntax error after this: an escape sequence or a number is out of range"
            self.fail(self.last, Code.SYNTAX, message)
        self.last = event.end_mark
        return event

    def fail_syntax(self, error: Any) -> NoReturn:
        """Raise the parser's own error."""
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "this can't be read").strip()
        if problem.startswith("expected '<document start>'"):
            problem = "the document has ended before this"
        within = ""
        if error.context and error.context_mark:
            start = error.context_mark
            within = f" {error.context}"
            if mark.index >= len(self.text.rstrip()):
                mark = start  # at the end of the text: point to what was never closed
            else:
                within += f" from line {start.line + 1}, column {start.column + 1}"
        tab = self.place(mark.line, mark.column).text[mark.column :].startswith("\t")
        hint = "use spaces: YAML does not allow tabs here" if tab else None
        message = f"syntax error{within}: {problem}"
        for term, word in WORDS.items():
            message = message.replace(term, word)
        self.fail(mark, Code.SYNTAX, message, hint)

    def reject_unsupported(self, event: Any, path: Path) -> None:
        """Reject features of YAML that are not part of the spec language."""
        if isinstance(event, self.yaml.AliasEvent) or event.anchor is not None:
            hint = "put keys that blocks share into block_defaults"
            message = "anchors and aliases (& and *) are not part of the language"
            self.reject(path, event.start_mark, Code.ANCHOR, message, hint)
            return
        if event.ctag is not None:
            handle, suffix = event.ctag.handle or "", event.ctag.suffix
            verbatim = not handle and suffix != "!"
            written = f"!<{suffix}>" if verbatim else f"{handle}{suffix}"
            message = f"the tag {describe_value(written)} is not part of the language"
            self.reject(path, event.start_mark, Code.TAG, message, "remove the tag")

    def value(self, event: Any, path: Path) -> Any:
        """Return the value that ``event`` starts, and record its location."""
        self.reject_unsupported(event, path)
        mark = event.start_mark
        self.document.positions[path] = self.place(mark.line, mark.column)
        if len(self.document.positions) > MAX_VALUES:
            message = f"more than {MAX_VALUES:,} values"
            self.fail(mark, Code.OVER_LIMIT, message, set_by("MAX_VALUES", __name__))
        if isinstance(event, self.yaml.AliasEvent):
            return None
        if isinstance(event, self.yaml.ScalarEvent):
            return self.scalar(event, path)
        if len(path) >= MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
            self.fail(mark, Code.OVER_LIMIT, message, set_by("MAX_DEPTH", __name__))
        if isinstance(event, self.yaml.SequenceStartEvent):
            return self.sequence(path)
        return self.mapping(path)

    def sequence(self, path: Path) -> list[Any]:
        """Return a list whose start event was consumed."""
        items: list[Any] = []
        while not isinstance(event := self.next_event(), self.yaml.SequenceEndEvent):
            items.append(self.value(event, (*path, len(items))))
        return items

    def mapping(self, path: Path) -> dict[str, Any]:
        """Return a section whose start event was consumed."""
        section: dict[str, Any] = {}
        while not isinstance(event := self.next_event(), self.yaml.MappingEndEvent):
            key = self.key(event, path)
            inside = (*path, key)
            if key in section:
                first = self.document.keys[inside]
                message = (
                    f"duplicate key {describe_value(key)}, first at line {first.line}, "
                    f"column {first.column}"
                )
                self.reject(inside, event.start_mark, Code.DUPLICATE_KEY, message)
            self.document.keys[inside] = self.place(event.start_mark.line, event.start_mark.column)
            event = self.next_event()
            section[key] = self.value(event, inside)
            if section[key] is None and event.start_mark.index == event.end_mark.index:
                # The parser places a missing value at the start of the next token.
                self.document.positions[inside] = self.document.keys[inside]
        return section

    def key(self, event: Any, section: Path) -> str:
        """Return the text of a key."""
        text = getattr(event, "value", "")
        alias = isinstance(event, self.yaml.AliasEvent)
        name = (
            f"*{event.anchor}"
            if alias
            else _SURROGATE.sub(_REPLACEMENT, _join_surrogates(str(text)))
        )
        path = (*section, name)
        self.reject_unsupported(event, path)
        mark = event.start_mark
        if alias:
            return name
        if not isinstance(event, self.yaml.ScalarEvent):
            self.fail(mark, Code.KEY_NOT_TEXT, "a key must be a string, found a list or a section")
        key = self.scalar(event, path)
        if not isinstance(key, str):
            message = f"a key must be a string, found {describe_value(key)}"
            self.reject(path, mark, Code.KEY_NOT_TEXT, message)
        return name

    def scalar(self, event: Any, path: Path) -> bool | int | float | str | None:
        """Resolve a scalar by the core schema of YAML 1.2."""
        text = _join_surrogates(event.value)
        if bad := _SURROGATE.search(text):
            message = f"the character U+{ord(bad[0]):04X} is not allowed in a spec"
            self.reject(path, event.start_mark, Code.NOT_TEXT, message)
            return _SURROGATE.sub(_REPLACEMENT, text)
        if event.style is not None:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
            return text.lower() == "true"
        if _INTEGER.fullmatch(text):
            if len(text) > MAX_DIGITS:
                message = self.about(path, f"expected a number of at most {MAX_DIGITS} digits")
                hint = set_by("MAX_DIGITS", __name__)
                self.reject(path, event.start_mark, Code.OVER_LIMIT, message, hint)
                return 0
            return int(text, 10) if text.lstrip("+-").isdecimal() else int(text, 0)
        if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            number = float(text.replace(".", "", 1) if _NOT_FINITE.fullmatch(text) else text)
            if not math.isfinite(number):
                message = f"expected a finite number, found {text[:MAX_DIGITS]}"
                self.reject(path, event.start_mark, Code.WRONG_VALUE, self.about(path, message))
            return number
        return text
