"""What stands in the museum: a defect made again, and what the compiler says of it.

An exhibit is a function that makes the defect and returns what was said; its docstring tells
what the defect was and, after ``Seen:``, where.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cliquegraph import StepGraph
from cliquegraph.proof.verification import Verification
from cliquegraph.steps.sharing import prove_sharing


@dataclass(frozen=True)
class Exhibit:
    """One row of docs/museum.md."""

    test: str
    defect: str
    seen: str
    caught_by: str
    message: str


def exhibit(caught_by: str, message: str) -> Callable[[Callable[..., str]], Callable[..., None]]:
    """Make a test of a function that returns what was said: it must be ``message``."""

    def decorate(show: Callable[..., str]) -> Callable[..., None]:
        @functools.wraps(show)
        def test(*fixtures: Any, **named: Any) -> None:
            said = show(*fixtures, **named)
            assert said == message, said

        defect, _, seen = " ".join((show.__doc__ or "").split()).partition(" Seen: ")
        assert seen, f"{show.__name__} does not say where the defect was seen"
        test.exhibit = Exhibit(show.__name__, defect, seen, caught_by, message)  # type: ignore[attr-defined]
        return test

    return decorate


def exhibits(module: ModuleType) -> list[Exhibit]:
    """The exhibits of a file, first to last."""
    return [test.exhibit for test in vars(module).values() if hasattr(test, "exhibit")]


def proof_says(steps: StepGraph) -> str:
    """The first rule of sharing that is broken."""
    first = prove_sharing(steps).failures[0]
    return f"{first.rule}: {first.detail}"


def verify_says(found: Verification) -> str:
    """The first value that differs, without the size of the error."""
    assert not found.ok
    assert found.first_difference is not None
    return re.sub(r"by \d\S*", "by …", found.first_difference)
