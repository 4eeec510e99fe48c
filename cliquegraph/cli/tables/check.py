"""What ``check`` prints."""

from __future__ import annotations

from rich.table import Table

from cliquegraph.compiler import Compilation
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
