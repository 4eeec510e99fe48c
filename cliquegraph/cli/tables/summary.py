"""What commands print: results as JSON data and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cliquegraph.analysis.cost import Cost
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.location import printable
from cliquegraph.emit.words import engineering, stage_numeral
from cliquegraph.fuzz.fuzz import Fuzzing
from cliquegraph.ir.types import Part, Section
from cliquegraph.passes.pipeline import LEVELS, optimise
from cliquegraph.plugins.memory import MemoryPlan, memory_model
from cliquegraph.proof.verify import TOLERANCE, Verification
from cliquegraph.steps.diff import Difference
from cliquegraph.steps.graph import BlockSteps
from cliquegraph.weights import Difference as SpecDifference
from cliquegraph.weights.describe import Figures

Json = dict[str, Any]


class _Table(Table):
    """A table in whose cells no name out of a file speaks to the terminal."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        shown = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, **options)


def table(title: str | None, *columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table; the columns in ``right`` hold numbers."""
    made = _Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        made.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    return made


# ---- steps -------------------------------------------------------------------------------


def steps_json(blocks: Iterable[BlockSteps]) -> list[Json]:
    """Return the rows of Table 1; reads are in the order of concatenation."""
    return [step.as_row() for block in blocks for step in block.steps]


def steps_table(block: BlockSteps, title: str) -> Table:
    """Return Table 1 of the paper for a block; bottom layers oldest first, as there."""
    made = table(title, "Bottom Layers", "Weights", "Top Layer", "Feature")
    stage = 0
    for step in block.steps:
        if step.stage != stage and stage:
            made.add_section()
        rows = block.table_order(step)
        made.add_row(
            _braces(str(feature) for feature, _ in rows),
            _braces(str(edge) for _, edge in rows),
            str(step.writes),
            f"Stage-{stage_numeral(step.stage)}" if step.stage != stage else "",
        )
        stage = step.stage
    return made


def _braces(items: Iterable[str]) -> str:
    listed = list(items)
    return listed[0] if len(listed) == 1 else "{" + ", ".join(listed) + "}"


# ---- check -------------------------------------------------------------------------------


def proof_json(compilation: Compilation) -> Json:
    """Return the proof of sharing and the figures of ``expect``."""
    proof = compilation.proof
    return {
        "name": compilation.network.name,
        "ok": proof.holds and all(each.holds for each in compilation.comparisons),
        "sharing": [
            {"block": c.block, "rule": c.rule, "holds": c.holds, "detail": c.detail}
            for c in proof.claims
        ],
        "expect": [
            {"figure": c.key, "expected": str(c.expected), "computed": c.computed, "holds": c.holds}
            for c in compilation.comparisons
        ],
    }


def proof_table(compilation: Compilation) -> Table:
    """Return the proof of sharing: a row for each rule, a column for each block."""
    proof = compilation.proof
    blocks = list(dict.fromkeys(claim.block for claim in proof.claims))
    title = f"{compilation.network.name}: sharing"
    made = table(title, "rule", *(f"block {block}" for block in blocks))
    for rule in dict.fromkeys(claim.rule for claim in proof.claims):
        claims = {claim.block: claim for claim in proof.claims if claim.rule == rule}
        made.add_row(rule, *(_claim(claims[block].holds, claims[block].detail) for block in blocks))
    return made


def _claim(holds: bool, detail: str) -> Text:
    return Text.assemble(("✓ ", "green") if holds else ("✗ ", "bold red"), detail)


def expect_table(compilation: Compilation) -> Table:
    """Return the figures of ``expect`` beside the computed ones."""
    made = table(None, "figure", "expected", "computed", "", right=("expected", "computed"))
    for each in compilation.comparisons:
        made.add_row(each.key, str(each.expected), f"{each.computed:,}", _claim(each.holds, ""))
    return made


# ---- summary -----------------------------------------------------------------------------


def summary_json(compilation: Compilation) -> Json:
    """Return a network's figures: in all, for each block with its updates, for each section."""
    cost, memory = compilation.cost, memory_model().memory(compilation.graph)
    depths = compilation.steps.depths
    blocks = []
    for block, depth in zip(compilation.steps.blocks, depths, strict=True):
        section = Section(Part.BLOCK, block.index)
        blocks.append(
            {
                "block": block.index,
                "kind": block.spec.kind,
                "layers": block.spec.layers,
                "filters": block.spec.filters,
                **_cost_json(cost.sections[section]),
                "stored_bytes": memory.sections.get(section, 0),
                "depth": depth,
                "steps": [
                    {"stage": each.stage, "layer": each.layer, **_cost_json(each.cost)}
                    for each in cost.steps
                    if each.section == section
                ],
            }
        )
    return {
        "name": compilation.network.name,
        **_cost_json(cost.total),
        "stored_bytes": memory.stored,
        "depth": sum(depths),
        "blocks": blocks,
        "sections": [
            {
                "section": str(section),
                **_cost_json(each),
                "stored_bytes": memory.sections.get(section, 0),
            }
            for section, each in cost.sections.items()
        ],
    }


def _cost_json(cost: Cost) -> Json:
    return {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "flops": cost.flops,
        "activations": cost.activations,
    }


def summary_table(compilation: Compilation) -> Table:
    """Return a network's figures, a row for each section."""
    numbers = ("parameters", "MACs", "FLOPs", "activations", "kept for backward", "depth")
    made = table(
        f"{compilation.network.name}, for one image", "section", "output", *numbers, right=numbers
    )
    cost, memory = compilation.cost, memory_model().memory(compilation.graph)
    depths = compilation.steps.depths
    outputs = _outputs(compilation)
    for section, each in cost.sections.items():
        depth = str(depths[section.index - 1]) if section.part is Part.BLOCK else ""
        row = _cost_row(each, memory.sections.get(section, 0))
        made.add_row(str(section), outputs[section], *row, depth)
    made.add_section()
    row = _cost_row(cost.total, memory.stored)
    made.add_row("in all", "", *row, str(sum(depths)), style="bold")
    return made


def figures_table(compilations: Sequence[Compilation]) -> Table:
    """Return a row for each network: its figures, and those that its spec expects."""
    numbers = ("parameters", "MACs", "FLOPs", "expected parameters", "expected FLOPs")
    made = table(None, "network", *numbers, right=numbers)
    for each in compilations:
        cost, expected = each.cost.total, each.network.expect.figures()
        made.add_row(
            each.network.name,
            f"{cost.parameters:,}",
            engineering(cost.macs),
            engineering(cost.flops),
            str(expected.get("parameters", "")),
            str(expected.get("flops", "")),
        )
    return made


def steps_cost_table(compilation: Compilation) -> Table:
    """Return the figures of each update; kernels that serve two stages stand in both rows."""
    numbers = ("parameters read", "MACs", "activations")
    made = table("updates", "update", *numbers, right=numbers)
    for each in compilation.cost.steps:
        cost = each.cost
        made.add_row(
            f"{each.section} X{each.layer}@{each.stage}",
            f"{cost.parameters:,}",
            f"{cost.macs:,}",
            f"{cost.activations:,}",
        )
    return made


def _outputs(compilation: Compilation) -> dict[Section, str]:
    """The shape that each section ends with."""
    last = {node.origin.section: node.output.type for node in compilation.lowered.nodes}
    return {section: str(value) for section, value in last.items()}


def _cost_row(cost: Cost, stored: int) -> tuple[str, ...]:
    return (
        f"{cost.parameters:,}",
        engineering(cost.macs),
        engineering(cost.flops),
        engineering(cost.activations),
        _bytes(stored),
    )


def _bytes(number: int) -> str:
    return f"{engineering(number)}B"


# ---- summary --memory --------------------------------------------------------------------


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
    }


def memory_table(compilation: Compilation, batch: int, dtype: str, steps: bool = False) -> Table:
    """Return what a network stores for backward, a row for each section or also each update."""
    plan = memory_model().memory(compilation.graph, batch=batch, dtype=dtype)
    title = f"{compilation.network.name} at -O{compilation.level}, {_images(batch)} in {dtype}"
    numbers = ("kept for backward", "per image")
    made = table(title, "section", *numbers, right=numbers)
    for section, stored in plan.sections.items():
        made.add_row(str(section), _bytes(stored), _bytes(stored // batch))
        for each in plan.steps:
            if steps and each.section == section:
                row = (_bytes(each.stored), _bytes(each.stored // batch))
                made.add_row(f"  X{each.layer}@{each.stage}", *row, style="dim")
    made.add_section()
    made.add_row("in all", _bytes(plan.stored), _bytes(plan.stored_per_image), style="bold")
    return made


def levels_table(compilations: Sequence[Compilation], batch: int, dtype: str) -> Table:
    """Return what networks store for backward at every level, and the peaks of a step."""
    numbers = ("kept for backward", "per image", "peak of a step")
    made = table(f"{_images(batch)} in {dtype}", "network", "level", *numbers, right=numbers)
    for compilation in compilations:
        for level, plan in _levels(compilation, batch, dtype).items():
            row = (_bytes(plan.stored), _bytes(plan.stored_per_image), _bytes(plan.peak))
            made.add_row(compilation.network.name, f"-O{level}", *row)
        made.add_section()
    return made


def _levels(compilation: Compilation, batch: int, dtype: str) -> dict[int, MemoryPlan]:
    return {
        level: memory_model().memory(optimise(compilation.lowered, level), batch=batch, dtype=dtype)
        for level in LEVELS
    }


def _images(batch: int) -> str:
    return "1 image" if batch == 1 else f"{batch} images"


# ---- verify ------------------------------------------------------------------------------


def verification_json(found: Verification) -> Json:
    """Return what ``verify`` found."""
    return {
        "name": found.network,
        "ok": found.ok,
        "backends": list(found.backends),
        "max_error": _finite(found.max_error),
        "max_error_float32": _finite(found.max_error_float32),
        "tolerance_float32": found.tolerance_float32,
        "parameters": found.parameters,
        "expected_parameters": found.expected_parameters,
        "first_difference": found.first_difference,
        "skipped": found.skipped,
        "unjudged": found.unjudged,
    }


def _finite(errors: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity: what can't be compared at all is null."""
    return {what: error if isfinite(error) else None for what, error in errors.items()}


def verification_table(found: Verification) -> Table:
    """Return the largest error of each comparison beside its tolerance."""
    made = table(
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
            made.add_row(*row, _claim(error <= tolerance, ""))
    return made


# ---- fuzz --------------------------------------------------------------------------------


def fuzzing_json(found: Fuzzing) -> Json:
    """Return what random networks showed."""
    return {
        "seed": found.seed,
        "start": found.start,
        "count": found.count,
        "backends": list(found.backends),
        "options": [target.option for target in found.targets],
        "ok": found.ok,
        "failures": [
            {
                "index": each.index,
                "kind": each.failure.kind,
                "detail": each.failure.detail,
                "file": str(each.path),
                "command": each.failure.command(each.path),
            }
            for each in found.found
        ],
        "unjudged": [
            {"index": index, "option": target.option, "detail": detail}
            for index, target, detail in found.unjudged
        ],
        "coverage": {f"{key}: {word}": count for (key, word), count in found.coverage.items()},
    }


def coverage_table(found: Fuzzing) -> Table:
    """Return in how many specs each key had which value."""
    made = table("what was drawn", "key", "value", "specs", right=("specs",))
    before = None
    for (key, word), count in found.coverage.items():
        made.add_row("" if key == before else key, word, f"{count:,}")
        before = key
    return made


def fuzzing_lines(found: Fuzzing) -> Iterable[str]:
    """Return a line for all, and one for each failure with the command that shows it."""
    drawn = sum(count > 0 for count in found.coverage.values())
    yield (
        f"{_specs(found.count)} of seed {found.seed}, from {found.start}: "
        f"{', '.join(found.backends)} at {' '.join(target.option for target in found.targets)}; "
        f"{drawn} of {len(found.coverage)} keys and values drawn; {len(found.found)} failed"
    )
    if found.unjudged:
        specs = _specs(len({index for index, _, _ in found.unjudged}))
        yield f"  rounding alone moves the training of {specs} too far to be compared"
    for each in found.found:
        yield f"  {each.failure.kind}: {each.failure.command(each.path)}"


def _specs(count: int) -> str:
    return "1 spec" if count == 1 else f"{count:,} specs"


# ---- diff --------------------------------------------------------------------------------


def diff_json(left: Compilation, right: Compilation, found: Sequence[Difference]) -> Json:
    """Return two networks side by side."""
    return {
        "equal": left.lowered.digest() == right.lowered.digest(),
        "figures": {
            name: _cost_json(each.cost.total) for name, each in (("left", left), ("right", right))
        },
        "steps": [{"place": d.place, "left": d.left, "right": d.right} for d in found],
    }


def diff_figures_table(left: Compilation, right: Compilation, names: tuple[str, str]) -> Table:
    """Return the figures of two networks side by side."""
    made = table("figures", "", *names, "difference", right=(*names, "difference"))
    a, b = _cost_json(left.cost.total), _cost_json(right.cost.total)
    for key in a:
        made.add_row(key, f"{a[key]:,}", f"{b[key]:,}", f"{b[key] - a[key]:+,}")
    return made


def diff_steps_table(found: Sequence[Difference], names: tuple[str, str]) -> Table:
    """Return the differences of two step graphs."""
    made = table("steps", "where", *names)
    for each in found:
        made.add_row(each.place, each.left or "–", each.right or "–")
    return made


# ---- weights -----------------------------------------------------------------------------


def weights_json(rows: Iterable[Figures]) -> list[Json]:
    """Return the figures of tensors; what is no number is null."""
    numbers = ("mean", "std", "min", "max")
    return [
        {
            "name": row.name,
            "dtype": row.dtype,
            "shape": list(row.shape),
            **_finite({key: getattr(row, key) for key in numbers}),
            "nan": row.nan,
        }
        for row in rows
    ]


def weights_table(rows: Iterable[Figures], title: str) -> Table:
    """Return the figures of tensors."""
    numbers = ("mean", "std", "min", "max")
    made = table(title, "tensor", "type", "shape", *numbers, "NaN", right=(*numbers, "NaN"))
    for row in rows:
        figures = (f"{getattr(row, key):.4g}" for key in numbers)
        shape = "×".join(map(str, row.shape))
        made.add_row(row.name, row.dtype, shape, *figures, f"{row.nan:,}" if row.nan else "")
    return made


def differences_json(found: Sequence[SpecDifference]) -> Json:
    """Return the keys in which a checkpoint and a spec differ."""
    keys = [{"key": key, "checkpoint": a, "spec": b} for key, a, b in found]
    return {"equal": not found, "differences": keys}


def differences_table(found: Sequence[SpecDifference], *names: str) -> Table:
    """Return the keys in which a checkpoint and a spec differ."""
    made = table("differences", "key", *names)
    for key, *values in found:
        made.add_row(key, *("–" if value is None else str(value) for value in values))
    return made
