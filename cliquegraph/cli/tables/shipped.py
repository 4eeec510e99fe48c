"""What ``specs`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table

from cliquegraph.compiler import Compilation
from cliquegraph.emit.words import engineering
from cliquegraph.spec.load import load
from cliquegraph.spec.shipped import Shipped
from cliquegraph.tables.table import Json, table


def shipped_json(spec: Shipped) -> Json:
    """Return the figures of a shipped spec."""
    network = load(spec.path)
    cost, image = Compilation(network).cost.total, network.input
    return {
        "name": spec.name,
        "kinds": [block.kind for block in network.blocks],
        "parameters": cost.parameters,
        "flops": cost.flops,
        "input": [image.channels, image.height, image.width],
        "classes": network.classifier.classes,
        "description": spec.description,
        "source": spec.source,
        "file": str(spec.path),
    }


_FOR_DESCRIPTION, _FOR_SOURCE = 110, 150  # columns of a terminal


def shipped_table(rows: Sequence[Json], width: int) -> Table:
    """Return a row for each shipped spec, with the columns that the width of a terminal allows."""
    numbers = ("parameters", "FLOPs")
    texts = ("description",) * (width >= _FOR_DESCRIPTION) + ("source",) * (width >= _FOR_SOURCE)
    columns = ("name", "blocks", *numbers, "input", *texts)
    result = table(None, *columns, right=numbers)
    for name, column in zip(columns, result.columns, strict=True):
        column.no_wrap = name not in texts
    for row in rows:
        kinds = [f"{len(list(run))} {kind}" for kind, run in groupby(row["kinds"])]
        result.add_row(
            row["name"],
            ", ".join(kinds),
            f"{row['parameters']:,}",
            engineering(row["flops"]),
            "×".join(map(str, row["input"])),
            *(row[name] or "" for name in texts),
        )
    return result
