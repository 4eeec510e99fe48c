"""Putting generated files in place: whole or not at all, and only where they change."""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from pathlib import Path

from cliquegraph.errors import UsageError


def write_if_changed(path: Path, text: str) -> bool:
    """Write ``text``, unless the file holds it already; return whether it was written.

    The file is replaced at once: nobody sees it half-written, and a failure leaves the old one.

    Raises:
        UsageError: the folder or the file can't be written.
    """
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror or error}") from None
    return True


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
