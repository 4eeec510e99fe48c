"""Reading of networks: ``load`` and ``loads``, the only entry points for specs.

A file is parsed to plain data, overrides are applied, its ``block_defaults`` are merged into the
blocks, and the result is validated. All errors are raised as one ``SpecError`` that points into
the user's text. A dictionary takes the same way, without positions.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path as FilePath
from typing import Any, TypeAlias

from pydantic import ValidationError

from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError, UsageError
from cliquegraph.diagnostics.location import Location
from cliquegraph.spec.document import MAX_CHARACTERS, SAVE_AS, Document, parse
from cliquegraph.spec.messages import diagnose, diagnose_defaults, in_order
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.overrides import apply
from cliquegraph.spec.schema import LANGUAGE_VERSION, SpecModel, set_by
from cliquegraph.spec.shipped import hint_for, shipped
from cliquegraph.spec.shorthand import expand_training, merge_block_defaults
from cliquegraph.spec.wording import describe_value

MAX_BYTES = MAX_CHARACTERS
_DATA = "<dictionary>"


Declaration: TypeAlias = "NetworkSpec | Mapping[str, Any] | str | os.PathLike[str]"
"""Whatever ``load`` takes: a network, its spec as a dictionary, or the path of its file."""


def load(path: Declaration, overrides: Sequence[str] | str = ()) -> NetworkSpec:
    """Read a network from a YAML or JSON file, a shipped one, or a dictionary with its keys.

    Every function that takes a network reads it by this one.

    Args:
        path: the file; if it does not exist, the name of a shipped spec, such as
            ``cliquenet_s3`` (``cliquegraph specs`` lists them); or the spec as a dictionary, in
            which ``cliquegraph``, the version of the language, may be omitted; or a network, which
            is returned as it is.
        overrides: changes made before the spec is checked, such as ``blocks.0.filters=48``.

    Raises:
        SpecError: the file can't be read, or declares no network; holds every error in it.
        UsageError: it is not a path, a dictionary or a network, or an override is not a text.

    >>> spec = load("specs/quickstart.yaml", ["blocks.0.filters=48", "expect={}"])
    >>> spec.blocks[0].filters
    48
    >>> load("cliquenet_s3").class_name
    'CliqueNetS3'
    >>> tiny = {
    ...     "name": "tiny",
    ...     "input": {"channels": 1, "height": 8, "width": 8},
    ...     "stem": {"filters": 8},
    ...     "blocks": [{"layers": 3, "filters": 4}],
    ...     "classifier": {"classes": 10},
    ... }
    >>> load(tiny).blocks[0].kind
    'clique'
    """
    _check_overrides(overrides)
    if isinstance(path, NetworkSpec):
        return _load_data(path.to_data(), overrides) if overrides else path
    if isinstance(path, Mapping):
        return _load_data(path, overrides)
    if not isinstance(path, str | os.PathLike):
        raise UsageError(
            "expected a network: what cliquegraph.load returns, the path of a spec or its keys as "
            f"a dictionary; found {describe_type(path)}"
        )
    is_text = isinstance(path, str) and ("\n" in path or path.lstrip().startswith("{"))
    if is_text and not os.path.exists(path):  # noqa: PTH110  # it may be no path at all
        hint = "cliquegraph.loads(text) reads a spec from its text"
        message = "expected the path of a spec, found the text of one"
        raise SpecError(Diagnostic(Code.UNREADABLE, message, None, hint))
    # A name that is not valid Unicode could not be printed in a message.
    name = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8") or "''"
    if not os.fspath(path):  # the system would take it for the current directory
        raise _unreadable(name, "not a valid file name")
    if name in shipped() and not os.path.lexists(path):
        found = shipped()[name].path
        return loads(_read(found, found.name), found.name, overrides)
    return loads(_read(FilePath(path), name), name, overrides)


def loads(text: str, name: str = "<string>", overrides: Sequence[str] | str = ()) -> NetworkSpec:
    """Read a network from a string.

    Args:
        text: YAML or JSON.
        name: the name of the text in messages.
        overrides: changes made before the spec is checked, such as ``blocks.0.filters=48``.

    Raises:
        SpecError: the text declares no network; holds every error in it.
    """
    if not isinstance(text, str):
        raise UsageError(
            f"expected the text of a spec, found {describe_type(text)}: cliquegraph.load reads "
            "files and dictionaries"
        )
    _check_overrides(overrides)
    rejected: list[Diagnostic] = []
    try:
        document = parse(text.removeprefix("\ufeff"), name)
        rejected = [each for _, each in document.rejected]
        spec = _network(document, overrides)
    except SpecError as error:
        raise SpecError(in_order([*rejected, *error.diagnostics], name)) from None
    if rejected:
        raise SpecError(in_order(rejected, name))
    return spec.with_positions(document.places())


def _check_overrides(overrides: object) -> None:
    """Refuse what is no list of texts, as a dictionary is none."""
    if isinstance(overrides, Mapping):
        shown = [f"{key}={_override(value)}" for key, value in overrides.items()]
        raise UsageError(f"overrides are a list of texts, found a dictionary: write {shown}")
    if isinstance(overrides, str):
        return
    if not isinstance(overrides, Iterable):
        raise UsageError(
            "overrides are a list of texts, such as ['blocks.0.filters=48'], found "
            f"{describe_type(overrides)}"
        )
    for each in overrides:
        if not isinstance(each, str):
            raise UsageError(
                f"an override is a text, such as 'blocks.0.filters=48', found {describe_type(each)}"
            )


def _override(value: object) -> str:
    """Return a value as an override has it: plain text, else JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _load_data(data: Mapping[str, Any], overrides: Sequence[str] | str) -> NetworkSpec:
    """Read a network from plain data; messages name keys, since there is no text to point into."""
    try:
        text = json.dumps({"cliquegraph": LANGUAGE_VERSION, **data}, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(Diagnostic(Code.WRONG_VALUE, f"a spec is plain data: {error}")) from None
    try:
        return loads(text, _DATA, overrides).with_positions({})
    except SpecError as error:
        raise SpecError(_without_text(error.diagnostics)) from None


def _without_text(diagnostics: Iterable[Diagnostic]) -> Iterable[Diagnostic]:
    """The same without locations in the JSON that the user never saw; overrides keep theirs."""
    for each in diagnostics:
        known = each.location is not None and each.location.file != _DATA
        yield each if known else replace(each, location=None)


def _plain(value: object) -> object:
    """A value that JSON does not know, such as a number of NumPy, as one that it does."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, SpecModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    raise TypeError(f"found {describe_type(value)}")


def _network(document: Document, overrides: Sequence[str] | str) -> NetworkSpec:
    """Return the network that a document declares."""
    if isinstance(overrides, str):
        overrides = [overrides]
    rejected = {path for path, _ in document.rejected}
    if () in rejected:  # the whole document: further errors would follow from that
        raise SpecError(())
    if document.data is None:
        hint = f"a spec starts with the line 'cliquegraph: {LANGUAGE_VERSION}'"
        raise SpecError(Diagnostic(Code.EMPTY, "the spec is empty", document.locate(()), hint))
    if not isinstance(document.data, dict):
        message = f"expected a spec (keys with values), found {describe_value(document.data)}"
        advice = "cliquegraph.load(path) reads a file" if _is_path(document.data) else None
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, document.locate(()), advice))
    apply(document, overrides)
    if ("cliquegraph",) not in rejected:
        _check_version(document)
    expand_training(document)
    errors = _errors_of_defaults(merge_block_defaults(document))
    try:
        network = NetworkSpec.model_validate(document.data)
    except ValidationError as error:
        raise SpecError([*errors, *diagnose(error, document)]) from None
    if errors:
        raise SpecError(errors)
    return network


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.endswith((".yaml", ".yml", ".json"))


def _errors_of_defaults(samples: Sequence[Document]) -> list[Diagnostic]:
    """Return the errors in defaults that hold for every kind of block that inherits them.

    Args:
        samples: for each kind, a document with one block that has the defaults.
    """
    failures: list[tuple[ValidationError, Document]] = []
    for document in samples:
        try:
            NetworkSpec.model_validate(document.data)
        except ValidationError as error:
            failures.append((error, document))
    # A key of one kind may be an error in a block of another.
    return diagnose_defaults(failures) if len(failures) == len(samples) else []


def _read(path: FilePath, name: str) -> str:
    """Return the text of a regular file of moderate size."""
    try:
        mode = path.stat().st_mode
        # Opening a pipe or a device could block forever.
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise _unreadable(name, f"expected a YAML or JSON file, but this is {kind}")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(name, "no such file", hint_for(name)) from None
    except OSError as error:
        raise _unreadable(name, f"can't be read: {error.strerror}") from None
    except ValueError:
        raise _unreadable(ascii(name), "not a valid file name") from None
    if len(content) > MAX_BYTES:
        message = f"larger than the {MAX_BYTES:,} bytes a spec may have"
        hint = set_by("MAX_CHARACTERS", Document.__module__)
        raise SpecError(Diagnostic(Code.OVER_LIMIT, message, Location(name), hint))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text: byte 0x{content[error.start]:02x} at offset {error.start}"
        where = _place_of(name, content, error.start)
        raise SpecError(Diagnostic(Code.NOT_TEXT, message, where, SAVE_AS)) from None


def _unreadable(name: str, message: str, hint: str | None = None) -> SpecError:
    return SpecError(Diagnostic(Code.UNREADABLE, message, Location(name), hint))


def _place_of(name: str, content: bytes, offset: int) -> Location:
    """The location of an undecodable byte, with its line decoded as far as possible."""
    start = content.rfind(b"\n", 0, offset) + 1
    end = content.find(b"\n", offset)
    line = content[start : end if end >= 0 else None]
    column = len(content[start:offset].decode("utf-8", "replace")) + 1
    number = content.count(b"\n", 0, offset) + 1
    return Location(name, number, column, line.decode("utf-8", "replace"))


def _check_version(document: Document) -> None:
    """Reject another language version with no further errors: keys may differ in meaning there."""
    version = document.data.get("cliquegraph", LANGUAGE_VERSION)
    if type(version) is int and version == LANGUAGE_VERSION:
        return
    reads = f"this compiler reads version {LANGUAGE_VERSION} of the language"
    message = f"cliquegraph: {reads}, found {describe_value(version)}"
    newer = type(version) is int and version > LANGUAGE_VERSION
    hint = (
        "a newer cliquegraph may read it"
        if newer
        else f"write 'cliquegraph: {LANGUAGE_VERSION}', an unquoted number"
    )
    raise SpecError(Diagnostic(Code.VERSION, message, document.locate(("cliquegraph",)), hint))


NetworkSpec._load = staticmethod(load)
