"""Files to networks: ``load`` and ``loads``, the only ways a spec comes in.

A file is read to plain data, overridden, its ``block_defaults`` are merged into the blocks, and
what results is validated. Everything wrong with it is one ``SpecError`` that points into what
the user wrote.
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
from cliquegraph.spec.shorthand import expand_training, merge_block_defaults
from cliquegraph.spec.wording import found

MAX_BYTES = MAX_CHARACTERS


def load(path: str | os.PathLike[str], overrides: Sequence[str] | str = ()) -> NetworkSpec:
    """Read a network from a YAML or JSON file.

    Args:
        path: the file.
        overrides: what to change before the spec is checked, each ``blocks.0.filters=48``.

    Raises:
        SpecError: the file can't be read, or declares no network; holds every fault found.

    >>> spec = load("specs/quickstart.yaml", ["blocks.0.filters=48", "expect={}"])
    >>> spec.blocks[0].filters
    48
    """
    # A name that is no Unicode could not be printed in a message.
    name = os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8") or "''"
    if not os.fspath(path):  # which is the current folder to the system
        raise _unreadable(name, "no name of a file")
    return loads(_read(FilePath(path), name), name, overrides)


def loads(text: str, name: str = "<string>", overrides: Sequence[str] | str = ()) -> NetworkSpec:
    """Read a network from a text.

    Args:
        text: YAML or JSON.
        name: what messages call the text.
        overrides: what to change before the spec is checked, each ``blocks.0.filters=48``.

    Raises:
        SpecError: the text declares no network; holds every fault found.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    refused: list[Diagnostic] = []
    try:
        document = parse(text.removeprefix("\ufeff"), name)
        refused = [fault for _, fault in document.refused]
        spec = _network(document, overrides)
    except SpecError as error:
        raise SpecError(in_order([*refused, *error.diagnostics], name)) from None
    if refused:
        raise SpecError(in_order(refused, name))
    return spec.with_positions(document.places())


def _network(document: Document, overrides: Sequence[str]) -> NetworkSpec:
    """Return what a document declares, wherever it was written."""
    refused = {path for path, _ in document.refused}
    if () in refused:  # the whole of it; what else could be said follows from that
        raise SpecError(())
    if document.data is None:
        hint = f"a spec begins with the line 'cliquegraph: {LANGUAGE_VERSION}'"
        raise SpecError(
            Diagnostic(Code.EMPTY, "nothing is written here", document.locate(()), hint)
        )
    if not isinstance(document.data, dict):
        message = f"expected a spec, keys with their values, found {found(document.data)}"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, document.locate(())))
    apply(document, overrides)
    if ("cliquegraph",) not in refused:
        _check_version(document)
    expand_training(document)
    faults = _faults_of_defaults(merge_block_defaults(document))
    try:
        network = NetworkSpec.model_validate(document.data)
    except ValidationError as error:
        raise SpecError([*faults, *diagnose(error, document)]) from None
    if faults:
        raise SpecError(faults)
    return network


def _faults_of_defaults(stated: Sequence[Document]) -> list[Diagnostic]:
    """Return what is wrong with defaults, whatever kind of block takes them over.

    Args:
        stated: per kind, a document of one block that says what they say.
    """
    refusals: list[tuple[ValidationError, Document]] = []
    for document in stated:
        try:
            NetworkSpec.model_validate(document.data)
        except ValidationError as error:
            refusals.append((error, document))
    # A key of one kind alone may be a fault in a block of another.
    return diagnose_defaults(refusals) if len(refusals) == len(stated) else []


def _read(path: FilePath, name: str) -> str:
    """Return the text of a regular file of moderate size."""
    try:
        mode = path.stat().st_mode
        # Opening a pipe or a device could wait for ever.
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise _unreadable(name, f"expected a YAML or JSON file, this is {kind}")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(name, "no such file") from None
    except OSError as error:
        raise _unreadable(name, f"can't be read: {error.strerror}") from None
    except ValueError:
        raise _unreadable(ascii(name), "no name of a file") from None
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


def _unreadable(name: str, message: str) -> SpecError:
    return SpecError(Diagnostic(Code.UNREADABLE, message, Location(name)))


def _place_of(name: str, content: bytes, offset: int) -> Location:
    """The place of a byte that is no text, within a line shown as far as it is."""
    start = content.rfind(b"\n", 0, offset) + 1
    end = content.find(b"\n", offset)
    line = content[start : end if end >= 0 else None]
    column = len(content[start:offset].decode("utf-8", "replace")) + 1
    number = content.count(b"\n", 0, offset) + 1
    return Location(name, number, column, line.decode("utf-8", "replace"))


def _check_version(document: Document) -> None:
    """Refuse another version alone: what else it says may mean something else there."""
    version = document.data.get("cliquegraph", LANGUAGE_VERSION)
    if type(version) is int and version == LANGUAGE_VERSION:
        return
    reads = f"this compiler reads version {LANGUAGE_VERSION} of the language"
    message = f"cliquegraph: {reads}, found {found(version)}"
    newer = type(version) is int and version > LANGUAGE_VERSION
    hint = (
        "a newer cliquegraph may read it"
        if newer
        else f"write 'cliquegraph: {LANGUAGE_VERSION}', a number without quotes"
    )
    raise SpecError(Diagnostic(Code.VERSION, message, document.locate(("cliquegraph",)), hint))
