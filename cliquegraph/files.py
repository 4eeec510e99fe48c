"""Putting files in place: whole or not at all, and texts only where they change."""

from __future__ import annotations

import difflib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.diagnostics.location import printable


def destination(path: Path) -> Path:
    """Return where what is written to ``path`` comes to lie: a link leads to its end.

    Raises:
        UsageError: links lead to each other.
    """
    try:
        return path.resolve()
    except RuntimeError:  # what Python up to 3.12 says of it
        raise UsageError(f"{path} leads nowhere: {os.strerror(errno.ELOOP)}") from None


def read_text(path: Path) -> str | None:
    """Return the text of a file, None where there is none.

    Raises:
        UsageError: it is no regular file (a pipe would be waited for), can't be read, or is no
            UTF-8.
    """
    try:
        if kind := _irregular(path):
            raise UsageError(f"can't read {path}: {kind}")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"can't read {path}: {error}") from None


def _irregular(path: Path) -> str | None:
    """Say what something is that is no file."""
    if not path.exists() or path.is_file():
        return None
    return "it is a folder" if path.is_dir() else "it is no regular file"


def write_files(files: Mapping[Path, str]) -> set[Path]:
    """Write files, but for those that hold their text already; return which were written.

    All are written beside their places first and then put there: nobody sees one half-written,
    and a fault with one leaves every old one.

    Raises:
        UsageError: a folder or a file can't be written.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, text in files.items():
            with _refusing(path):
                if not (path.is_file() and path.read_bytes() == text.encode()):
                    staged[path] = _stage(path, [text.encode()])
        for path, temporary in staged.items():
            with _refusing(path):
                temporary.replace(destination(path))
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
    return set(staged)


def write_bytes(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file chunk by chunk; it takes its place when it is whole.

    Raises:
        UsageError: it can't be written; what was at ``path`` stays, as with any error of
            ``chunks``.
    """
    temporary = _stage(path, chunks)
    try:
        with _refusing(path):
            temporary.replace(destination(path))
    finally:
        temporary.unlink(missing_ok=True)


def _stage(path: Path, chunks: Iterable[bytes | memoryview]) -> Path:
    """Write a new file beside ``path``, with the rights that a new file has."""
    with _refusing(path):
        place = destination(path)
        if kind := _irregular(place):
            raise UsageError(f"can't write {path}: {kind}")
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{place.name[:100]}.", dir=place.parent)
        os.fchmod(handle, 0o666 & ~_umask())
    try:
        file = os.fdopen(handle, "wb")
        with _refusing(path), file:
            for chunk in chunks:
                file.write(chunk)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror or error}") from None


def difference(path: Path, text: str) -> str:
    """Return a unified diff from a file, which may be missing, to ``text``; empty if equal.

    Raises:
        UsageError: the file can't be read.
    """
    found, name = read_text(path), printable(str(path))
    lines = difflib.unified_diff(
        (found or "").splitlines(keepends=True),
        text.splitlines(keepends=True),
        fromfile=f"{name} (missing)" if found is None else name,
        tofile=f"{name} (compiled)",
    )
    return "".join(lines)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
