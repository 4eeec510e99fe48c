"""What ``check`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from cliquegraph.compiler import Compilation
from cliquegraph.proof.exact import Stage, words
from cliquegraph.tables.table import Json, mark, table


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
    result = table(title, "rule", *(f"block {block}" for block in blocks))
    for rule in dict.fromkeys(claim.rule for claim in proof.claims):
        claims = {claim.block: claim for claim in proof.claims if claim.rule == rule}
        result.add_row(rule, *(mark(claims[block].holds, claims[block].detail) for block in blocks))
    return result


def expect_table(compilation: Compilation) -> Table:
    """Return the figures of ``expect`` beside the computed ones."""
    result = table(None, "figure", "expected", "computed", "", right=("expected", "computed"))
    for each in compilation.comparisons:
        result.add_row(each.key, str(each.expected), f"{each.computed:,}", mark(each.holds, ""))
    return result


def exact_json(stages: Sequence[Stage]) -> list[Json]:
    """Return what was compared exactly, graph by graph."""
    return [
        {
            "graph": words(stage.passes),
            "images": list(stage.size),
            "values": stage.evidence.values,
            "statistics": stage.evidence.statistics,
            "opaque_arguments": stage.evidence.queries,
            "degree": stage.evidence.degree,
            "error_probability": stage.evidence.bound,
            "seconds": round(stage.seconds, 3),
        }
        for stage in stages
    ]


def exact_table(name: str, stages: Sequence[Stage]) -> Table:
    """Return what was compared exactly: a row for each graph."""
    numbers = ("values", "statistics", "opaque arguments", "degree", "error probability", "s")
    height, width = stages[0].size
    title = f"{name}: the declaration and its op graph are equal, on images of {height}×{width}"
    result = table(title, "op graph", *numbers, right=numbers)
    for stage in stages:
        evidence = stage.evidence
        result.add_row(
            mark(True, words(stage.passes)),
            f"{evidence.values:,}",
            f"{evidence.statistics:,}",
            f"{evidence.queries:,}",
            f"{evidence.degree}",
            f"{evidence.bound:.0e}",
            f"{stage.seconds:.1f}",
        )
    return result
