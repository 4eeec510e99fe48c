"""Reading of networks from files: ``load`` and ``loads``, the only entry points for specs.

A file is parsed to plain data, overrides are applied, its ``block_defaults`` are merged into the
blocks, and the result is validated. All errors are raised as one ``SpecError`` that points into
the user's text.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path as FilePath

from pydantic import ValidationError

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.diagnostics.location import Location
from cliquegraph.spec.document import MAX_CHARACTERS, SAVE_AS, Document, parse
from cliquegraph.spec.messages import diagnose, diagnose_defaults, in_order
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.overrides import apply
from cliquegraph.spec.schema import LANGUAGE_VERSION, set_by
from cliquegraph.spec.shipped import hint_for, shipped
from cliquegraph.spec.shorthand import expand_training, merge_block_defaults
from cliquegraph.spec.wording import describe_value

MAX_BYTES = MAX_CHARACTERS


def load(path: str | os.PathLike[str], overrides: Sequence[str] | str = ()) -> NetworkSpec:
    """Read a network from a YAML or JSON file, or a shipped one by name.

    Args:
        path: the file; if it does not exist, the name of a shipped spec, such as
            ``cliquenet_s3`` (``cliquegraph specs`` lists them).
        overrides: changes made before the spec is checked, such as ``blocks.0.filters=48``.

    Raises:
        SpecError: the file can't be read, or declares no network; holds every error in it.

    >>> spec = load("specs/quickstart.yaml", ["blocks.0.filters=48", "expect={}"])
    >>> spec.blocks[0].filters
    48
    >>> load("cliquenet_s3").class_name
    'CliqueNetS3'
    """
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
    if isinstance(overrides, str):
        overrides = [overrides]
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


def _network(document: Document, overrides: Sequence[str]) -> NetworkSpec:
    """Return the network that a document declares."""
    rejected = {path for path, _ in document.rejected}
    if () in rejected:  # the whole document: further errors would follow from that
        raise SpecError(())
    if document.data is None:
        hint = f"a spec starts with the line 'cliquegraph: {LANGUAGE_VERSION}'"
        raise SpecError(Diagnostic(Code.EMPTY, "the spec is empty", document.locate(()), hint))
    if not isinstance(document.data, dict):
        message = f"expected a spec (keys with values), found {describe_value(document.data)}"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, document.locate(())))
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
