"""Putting files in place: whole or not at all, and texts only where they change."""

from __future__ import annotations

import difflib
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cliquegraph.errors import UsageError


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
            try:
                if not (path.is_file() and path.read_bytes() == text.encode()):
                    staged[path] = _stage(path, text)
            except OSError as error:
                raise _refused(path, error) from None
        for path, temporary in staged.items():
            try:
                temporary.replace(path)
            except OSError as error:
                raise _refused(path, error) from None
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
    return set(staged)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of ``path`` when the block ends without a fault.

    Raises:
        UsageError: it can't be written; what was at ``path`` stays.
    """
    try:
        temporary, handle = _create(path)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from None


def _stage(path: Path, text: str) -> Path:
    """Write ``text`` to a new file beside ``path``."""
    temporary, handle = _create(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _create(path: Path) -> tuple[Path, int]:
    """Open a new file beside ``path``, with the rights that a new file has."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    os.fchmod(handle, 0o666 & ~_umask())
    return Path(name), handle


def _refused(path: Path, error: OSError) -> UsageError:
    return UsageError(f"can't write {path}: {error.strerror or error}")


def difference(path: Path, text: str) -> str:
    """Return a unified diff from a file, which may be missing, to ``text``; empty if equal.

    Raises:
        UsageError: the file can't be read.
    """
    try:
        found = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {path}: {error}") from None
    lines = difflib.unified_diff(
        found.splitlines(keepends=True),
        text.splitlines(keepends=True),
        fromfile=str(path) if found else f"{path} (missing)",
        tofile=f"{path} (compiled)",
    )
    return "".join(lines)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
