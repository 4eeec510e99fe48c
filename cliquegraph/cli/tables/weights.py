"""What the commands ``weights ...`` print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from cliquegraph.tables.table import Json, finite, table
from cliquegraph.weights import Difference as SpecDifference
from cliquegraph.weights.describe import Figures


def weights_json(rows: Iterable[Figures]) -> list[Json]:
    """Return the statistics of tensors; non-finite ones are null."""
    numbers = ("mean", "std", "min", "max")
    return [
        {
            "name": row.name,
            "dtype": row.dtype,
            "shape": list(row.shape),
            **finite({key: getattr(row, key) for key in numbers}),
            "nan": row.nan,
        }
        for row in rows
    ]


def weights_table(rows: Iterable[Figures], title: str) -> Table:
    """Return the figures of tensors."""
    numbers = ("mean", "std", "min", "max")
    result = table(title, "tensor", "type", "shape", *numbers, "NaN", right=(*numbers, "NaN"))
    for row in rows:
        figures = (f"{getattr(row, key):.4g}" for key in numbers)
        shape = "×".join(map(str, row.shape))
        result.add_row(row.name, row.dtype, shape, *figures, f"{row.nan:,}" if row.nan else "")
    return result


def differences_json(found: Sequence[SpecDifference]) -> Json:
    """Return the keys in which a checkpoint and a spec differ."""
    keys = [{"key": key, "checkpoint": a, "spec": b} for key, a, b in found]
    return {"equal": not found, "differences": keys}


def differences_table(found: Sequence[SpecDifference], *names: str) -> Table:
    """Return the keys in which a checkpoint and a spec differ."""
    result = table("differences", "key", *names)
    for key, *values in found:
        result.add_row(key, *("–" if value is None else str(value) for value in values))
    return result
