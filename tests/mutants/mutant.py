"""What a mutant is, and what it is called from one run to the next."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

Function = tuple[str, int, int]
Key = tuple[str, str, str, str, str, int]


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    ``function`` is the outermost one around the change, by its qualified name and its first and
    last line; None where the change takes effect when the file is read. ``digest`` is of the
    source of this function, else of the statement at the top of the file: what is known of a
    mutant counts as long as that is what it was. ``nth`` counts the changes that look alike.
    """

    file: Path
    line: int
    before: str
    after: str
    source: str
    function: Function | None
    digest: str
    nth: int = 0

    @property
    def key(self) -> Key:
        """What it is called, wherever in the file its function stands."""
        name = self.function[0] if self.function else ""
        return str(self.file), name, self.digest, self.before, self.after, self.nth

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  →  {self.after}"


def digest(*texts: str | bytes) -> str:
    """A short hash of some texts."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text if isinstance(text, bytes) else text.encode())
    return found.hexdigest()[:12]


def numbered(mutants: Iterable[Mutant]) -> Iterator[Mutant]:
    """Tell those apart that look alike."""
    alike: Counter[Key] = Counter()
    for mutant in mutants:
        yield replace(mutant, nth=alike[mutant.key])
        alike[mutant.key] += 1
