"""What ``verify`` prints."""

from __future__ import annotations

from rich.table import Table

from cliquegraph.proof.verification import TOLERANCE, Verification
from cliquegraph.tables.table import Json, finite, mark, table


def verification_json(found: Verification) -> Json:
    """Return the result of ``verify``."""
    return {
        "name": found.network,
        "ok": found.ok,
        "backends": list(found.backends),
        "max_error": finite(found.max_error),
        "max_error_float32": finite(found.max_error_float32),
        "tolerance_float32": found.tolerance_float32,
        "parameters": found.parameters,
        "expected_parameters": found.expected_parameters,
        "first_difference": found.first_difference,
        "skipped": found.skipped,
        "unjudged": found.unjudged,
    }


def verification_table(found: Verification) -> Table:
    """Return the largest error of each comparison beside its tolerance."""
    grid = table(
        f"{found.network}: interpreter, {', '.join(found.backends)}",
        "compared",
        "largest relative error",
        "tolerance",
        "",
        right=("largest relative error", "tolerance"),
    )
    kinds = (
        (found.max_error, TOLERANCE, ""),
        (found.max_error_float32, found.tolerance_float32, ", float32"),
    )
    for errors, tolerance, suffix in kinds:
        for what, error in errors.items():
            row = (f"{what}{suffix}", f"{error:.1e}", f"{tolerance:.0e}")
            grid.add_row(*row, mark(error <= tolerance, ""))
    return grid
