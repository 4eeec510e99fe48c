"""What ``summary --memory`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from cliquegraph.compiler import Compilation
from cliquegraph.passes.pipeline import LEVELS, optimise
from cliquegraph.plugins.memory import MemoryPlan, memory_model
from cliquegraph.tables.table import Json, size, table


def memory_json(compilation: Compilation, batch: int, dtype: str) -> Json:
    """Return the memory plan of a network at its level, and the figures of every level."""
    plan = memory_model().memory(compilation.graph, batch=batch, dtype=dtype)
    return {
        "level": compilation.level,
        "batch": batch,
        "dtype": dtype,
        **_memory_json(plan),
        "sections": [
            {"section": str(section), "stored_bytes": stored}
            for section, stored in plan.sections.items()
        ],
        "steps": [
            {
                "section": str(each.section),
                "stage": each.stage,
                "layer": each.layer,
                "stored_bytes": each.stored,
            }
            for each in plan.steps
        ],
        "levels": [
            {"level": level, **_memory_json(each)}
            for level, each in _levels(compilation, batch, dtype).items()
        ],
    }


def _memory_json(plan: MemoryPlan) -> Json:
    return {
        "stored_bytes": plan.stored,
        "stored_bytes_per_image": plan.stored_per_image,
        "peak_bytes": plan.peak,
        "moved_forward_bytes": plan.moved_forward,
        "moved_backward_bytes": plan.moved_backward,
    }


def memory_table(compilation: Compilation, batch: int, dtype: str, steps: bool = False) -> Table:
    """Return what a network saves for backward, a row for each section or also each update."""
    plan = memory_model().memory(compilation.graph, batch=batch, dtype=dtype)
    title = f"{compilation.network.name} at -O{compilation.level}, {_images(batch)} in {dtype}"
    numbers = ("saved for backward", "per image")
    result = table(title, "section", *numbers, right=numbers)
    for section, stored in plan.sections.items():
        result.add_row(str(section), size(stored), size(stored // batch))
        for each in plan.steps:
            if steps and each.section == section:
                row = (size(each.stored), size(each.stored // batch))
                result.add_row(f"  X{each.layer}@{each.stage}", *row, style="dim")
    result.add_section()
    result.add_row("total", size(plan.stored), size(plan.stored_per_image), style="bold")
    return result


def levels_table(compilations: Sequence[Compilation], batch: int, dtype: str) -> Table:
    """Return what a step saves, has at its peak, and moves without Triton, at every level."""
    saved = ("saved for backward", "per image", "peak of a step")
    columns = (*saved, "moved forward", "moved backward")
    result = table(f"{_images(batch)} in {dtype}", "network", "level", *columns, right=columns)
    for compilation in compilations:
        for level, plan in _levels(compilation, batch, dtype).items():
            saved_and_peak = (plan.stored, plan.stored_per_image, plan.peak)
            row = map(size, (*saved_and_peak, plan.moved_forward, plan.moved_backward))
            result.add_row(compilation.network.name, f"-O{level}", *row)
        result.add_section()
    return result


def _levels(compilation: Compilation, batch: int, dtype: str) -> dict[int, MemoryPlan]:
    return {
        level: memory_model().memory(optimise(compilation.lowered, level), batch=batch, dtype=dtype)
        for level in LEVELS
    }


def _images(batch: int) -> str:
    return "1 image" if batch == 1 else f"{batch} images"
