"""The exceptions of cliquegraph, and the exit code of each.

Exit code 1 means "the answer is no", 2 means "bad input or usage". The command line prints
these errors in one place; any other exception that escapes is a bug in cliquegraph.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.location import Location


class CliqueGraphError(Exception):
    """Base of every error that a user can cause."""

    exit_code: ClassVar[int] = 2
    _code: ClassVar[Code]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The errors, one by one."""
        return (Diagnostic(self._code, str(self)),)


@dataclass(frozen=True)
class Diagnostic:
    """One error in a spec: where it is, what is wrong, and how to fix it.

    Attributes:
        code: its kind; it stays the same when the message is reworded.
        message: what is wrong and what was expected.
        location: where, or None for a spec that was built in Python.
        hint: a suggestion ("did you mean 'filters'?"), or None.
    """

    code: Code
    message: str
    location: Location | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = "" if self.location is None else f"{self.location}: "
        lines = [f"{place}error[{self.code}]: {self.message}"]
        if self.location is not None and self.location.text:
            lines += caret(self.location)
        if self.hint:
            lines.append(f"  = help: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Return it for an editor to read; a missing location is null."""
        where = self.location
        return {
            "file": where.file if where else None,
            "line": where.line or None if where else None,
            "column": where.column or None if where else None,
            "code": str(self.code),
            "message": self.message,
            "hint": self.hint,
        }


def caret(location: Location, width: int = 100) -> list[str]:
    """Show a location's line with a caret below the column, cut to ``width`` characters."""
    text = location.text.expandtabs(1)
    column = location.column - 1
    start = max(0, column - width // 2) if len(text) > width else 0
    shown = "".join(c if c.isprintable() else "�" for c in text[start : start + width])
    gutter = f"{location.line:>4} | "
    return [gutter + shown, " " * (len(gutter) - 2) + "| " + " " * (column - start) + "^"]


class SpecError(CliqueGraphError):
    """A spec that can't be read or that declares no network; holds every error in it."""

    def __init__(self, diagnostics: Iterable[Diagnostic] | Diagnostic) -> None:
        if isinstance(diagnostics, Diagnostic):
            diagnostics = (diagnostics,)
        self._diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self._diagnostics)))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Every error, in the order of the file."""
        return self._diagnostics


class UsageError(CliqueGraphError):
    """A command or call with an invalid argument."""

    _code = Code.USAGE


class BackendError(CliqueGraphError):
    """A backend that is not installed, or whose framework is missing."""

    _code = Code.BACKEND


class ExpectError(SpecError):
    """A network whose figures differ from those its spec expects."""

    exit_code = 1


class WeightsError(CliqueGraphError):
    """Weights that do not fit the network: missing, unexpected or of the wrong shape."""

    _code = Code.WEIGHTS


class DataError(CliqueGraphError):
    """Images that can't be read: a file that is truncated, damaged or of the wrong format."""

    _code = Code.DATA


class TrainingError(CliqueGraphError):
    """Training that can't continue: a non-finite loss, a full disk."""

    exit_code = 1
    _code = Code.TRAINING


class VerificationError(CliqueGraphError):
    """An op graph or step graph that violates its invariants: a bug in a pass or a lowering."""

    exit_code = 1
    _code = Code.VERIFICATION
