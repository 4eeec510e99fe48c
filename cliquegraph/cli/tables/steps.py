"""What ``steps`` prints: Table 1 of the paper."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from cliquegraph.blocks.phrases import stage_numeral
from cliquegraph.steps.graph import BlockSteps
from cliquegraph.tables.table import Json, table


def steps_json(blocks: Iterable[BlockSteps]) -> list[Json]:
    """Return the rows of Table 1; reads are X0 first, then ascending."""
    return [step.as_row() for block in blocks for step in block.steps]


def steps_table(block: BlockSteps, title: str) -> Table:
    """Return Table 1 of the paper for a block; bottom layers oldest first, as there."""
    result = table(title, "Bottom Layers", "Weights", "Top Layer", "Feature")
    stage = 0
    for step in block.steps:
        if step.stage != stage and stage:
            result.add_section()
        rows = block.table_order(step)
        result.add_row(
            _braces(str(feature) for feature, _ in rows),
            _braces("the value" if edge is None else str(edge) for _, edge in rows),
            str(step.writes),
            f"Stage-{stage_numeral(step.stage)}" if step.stage != stage else "",
        )
        stage = step.stage
    return result


def _braces(items: Iterable[str]) -> str:
    listed = list(items)
    return listed[0] if len(listed) == 1 else "{" + ", ".join(listed) + "}"
