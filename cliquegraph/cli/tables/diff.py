"""What ``diff`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from cliquegraph.compiler import Compilation
from cliquegraph.steps.diff import Difference
from cliquegraph.tables.summary import cost_json
from cliquegraph.tables.table import Json, table


def diff_json(left: Compilation, right: Compilation, found: Sequence[Difference]) -> Json:
    """Return the figures of two networks and their differences in steps."""
    return {
        "equal": left.lowered.digest() == right.lowered.digest(),
        "figures": {
            name: cost_json(each.cost.total) for name, each in (("left", left), ("right", right))
        },
        "steps": [{"place": d.place, "left": d.left, "right": d.right} for d in found],
    }


def diff_figures_table(left: Compilation, right: Compilation, names: tuple[str, str]) -> Table:
    """Return the figures of two networks in adjacent columns."""
    result = table("figures", "", *names, "difference", right=(*names, "difference"))
    a, b = cost_json(left.cost.total), cost_json(right.cost.total)
    for key in a:
        result.add_row(key, f"{a[key]:,}", f"{b[key]:,}", f"{b[key] - a[key]:+,}")
    return result


def diff_steps_table(found: Sequence[Difference], names: tuple[str, str]) -> Table:
    """Return the differences of two step graphs."""
    result = table("steps", "where", *names)
    for each in found:
        result.add_row(each.place, each.left or "–", each.right or "–")
    return result
