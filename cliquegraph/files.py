"""Atomic writing of files; text files are written only when they change."""

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
    """Return the path that a write to ``path`` reaches, with links resolved.

    Raises:
        UsageError: the links form a cycle.
    """
    try:
        return path.resolve()
    except RuntimeError:  # Python up to 3.12 raises this for a cycle
        raise UsageError(f"can't resolve {path}: {os.strerror(errno.ELOOP)}") from None


def read_text(path: Path) -> str | None:
    """Return the text of a file, or None if it does not exist.

    Raises:
        UsageError: it is not a regular file (reading a pipe would block), can't be read, or is
            not UTF-8.
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
    """Describe a path that exists and is not a regular file; None for any other."""
    if not path.exists() or path.is_file():
        return None
    return "it is a directory" if path.is_dir() else "it is not a regular file"


def write_files(files: Mapping[Path, str]) -> set[Path]:
    """Write the files whose text changes; return which were written.

    All are first written to temporary files beside their targets and then renamed: no reader sees
    a partial file, and an error in one leaves all old files in place.

    Raises:
        UsageError: a directory or a file can't be written.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, text in files.items():
            with _usage_errors(path):
                if not (path.is_file() and path.read_bytes() == text.encode()):
                    staged[path] = _stage(path, [text.encode()])
        for path, temporary in staged.items():
            with _usage_errors(path):
                temporary.replace(destination(path))
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
    return set(staged)


def write_bytes(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file chunk by chunk; it replaces the old one when it is complete.

    Raises:
        UsageError: it can't be written; the old file stays, as with any error in ``chunks``.
    """
    temporary = _stage(path, chunks)
    try:
        with _usage_errors(path):
            temporary.replace(destination(path))
    finally:
        temporary.unlink(missing_ok=True)


def _stage(path: Path, chunks: Iterable[bytes | memoryview]) -> Path:
    """Write a temporary file beside ``path``, with the permissions of a new file."""
    with _usage_errors(path):
        place = destination(path)
        if kind := _irregular(place):
            raise UsageError(f"can't write {path}: {kind}")
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{place.name[:100]}.", dir=place.parent)
        os.fchmod(handle, 0o666 & ~_umask())
    try:
        file = os.fdopen(handle, "wb")
        with _usage_errors(path), file:
            for chunk in chunks:
                file.write(chunk)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


@contextmanager
def _usage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror or error}") from None


def difference(path: Path, text: str) -> str:
    """Return a unified diff from a file, which may not exist, to ``text``; empty if equal.

    Raises:
        UsageError: the file can't be read.
    """
    old, name = read_text(path), printable(str(path))
    lines = difflib.unified_diff(
        (old or "").splitlines(keepends=True),
        text.splitlines(keepends=True),
        fromfile=f"{name} (missing)" if old is None else name,
        tofile=f"{name} (compiled)",
    )
    return "".join(lines)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
