"""What ``summary`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from cliquegraph.analysis.cost import Cost
from cliquegraph.compiler import Compilation
from cliquegraph.emit.words import engineering
from cliquegraph.ir.types import Part, Section
from cliquegraph.plugins.memory import memory_model
from cliquegraph.tables.table import Json, size, table


def summary_json(compilation: Compilation) -> Json:
    """Return a network's figures: total, for each block with its updates, for each section."""
    cost, memory = compilation.cost, memory_model().memory(compilation.graph)
    depths = compilation.steps.depths
    blocks = []
    for block, depth in zip(compilation.steps.blocks, depths, strict=True):
        section = Section(Part.BLOCK, block.index)
        blocks.append(
            {
                "block": block.index,
                "kind": block.declared.words.kind,
                "layers": len(block.declared.layers),
                "filters": block.declared.layers[-1].filters,
                **cost_json(cost.sections[section]),
                "stored_bytes": memory.sections.get(section, 0),
                "depth": depth,
                "steps": [
                    {"stage": each.stage, "layer": each.layer, **cost_json(each.cost)}
                    for each in cost.steps
                    if each.section == section
                ],
            }
        )
    return {
        "name": compilation.network.name,
        **cost_json(cost.total),
        "executed_macs": compilation.executed_macs,
        "executed_macs_by_level": {
            f"-O{level}": macs for level, macs in compilation.executed_by_level.items()
        },
        "stored_bytes": memory.stored,
        "depth": sum(depths),
        "blocks": blocks,
        "sections": [
            {
                "section": str(section),
                **cost_json(each),
                "stored_bytes": memory.sections.get(section, 0),
            }
            for section, each in cost.sections.items()
        ],
    }


def cost_json(cost: Cost) -> Json:
    """Return the figures of a part of a network."""
    return {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "activations": cost.activations,
    }


def summary_table(compilation: Compilation) -> Table:
    """Return a network's figures, a row for each section."""
    numbers = ("parameters", "MACs", "FLOPs", "activations", "saved for backward", "depth")
    result = table(
        f"{compilation.network.name}, for one image", "section", "output", *numbers, right=numbers
    )
    cost, memory = compilation.cost, memory_model().memory(compilation.graph)
    depths = compilation.steps.depths
    shapes = outputs(compilation)
    for section, each in cost.sections.items():
        depth = str(depths[section.index - 1]) if section.part is Part.BLOCK else ""
        row = _cost_row(each, memory.sections.get(section, 0))
        result.add_row(str(section), shapes[section], *row, depth)
    result.add_section()
    row = _cost_row(cost.total, memory.stored)
    result.add_row("total", "", *row, str(sum(depths)), style="bold")
    for levels, executed in _executed(compilation):
        figures = (engineering(executed), engineering(2 * executed))
        result.add_row(f"executed, {levels}", _share_saved(executed, cost.total), "", *figures)
    return result


def _executed(compilation: Compilation) -> Iterator[tuple[str, int]]:
    """The MACs executed at levels that leave out some of the declared, with the levels' options."""
    options: dict[int, list[str]] = {}
    for level, executed in compilation.executed_by_level.items():
        options.setdefault(executed, []).append(f"-O{level}")
    for executed, levels in options.items():
        if executed != compilation.cost.total.macs:
            yield " ".join(levels), executed


def _share_saved(executed: int, declared: Cost) -> str:
    return f"{100 * (declared.macs - executed) / declared.macs:.1f} % less"


def figures_table(compilations: Sequence[Compilation]) -> Table:
    """Return a row for each network: its figures, and those that its spec expects."""
    numbers = ("parameters", "MACs", "FLOPs", "expected parameters", "expected FLOPs")
    result = table(None, "network", *numbers, right=numbers)
    for each in compilations:
        cost, expected = each.cost.total, each.network.expect.figures()
        result.add_row(
            each.network.name,
            f"{cost.parameters:,}",
            engineering(cost.macs),
            engineering(cost.flops),
            str(expected.get("parameters", "")),
            str(expected.get("flops", "")),
        )
    return result


def steps_cost_table(compilation: Compilation) -> Table:
    """Return the figures of each update; kernels used in two stages count in both rows."""
    numbers = ("parameters read", "MACs", "activations")
    result = table("updates", "update", *numbers, right=numbers)
    for each in compilation.cost.steps:
        cost = each.cost
        result.add_row(
            f"{each.section} X{each.layer}@{each.stage}",
            f"{cost.parameters:,}",
            f"{cost.macs:,}",
            f"{cost.activations:,}",
        )
    return result


def outputs(compilation: Compilation) -> dict[Section, str]:
    """Return the shape that each section ends with."""
    last = {node.origin.section: node.output.type for node in compilation.lowered.nodes}
    return {section: str(value) for section, value in last.items()}


def _cost_row(cost: Cost, stored: int) -> tuple[str, ...]:
    return (
        f"{cost.parameters:,}",
        engineering(cost.macs),
        engineering(cost.flops),
        engineering(cost.activations),
        size(stored),
    )
