"""What ``prove`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.table import Table

from cliquegraph.proof.certificate import Proved
from cliquegraph.proof.exact import words
from cliquegraph.proof.prove import WANTED, FileProof
from cliquegraph.tables.table import mark, table

_GROUPS = {
    "logits, evaluation": "logits",
    "block features, evaluation": "features",
    "gradients, evaluation": "gradients",
    "logits, training": "logits, training",
    "block features, training": "features, training",
    "running statistics": "statistics",
    "gradients": "gradients, training",
}


def graphs_table(proved: Proved) -> Table:
    """Return what was compared of the op graph: a row after each pass."""
    numbers = ("values", "statistics", "opaque arguments", "degree", "error probability", "s")
    height, width = proved.stages[0].size
    name = proved.network.name
    where = f"at reduced widths, on images of {height}×{width}" if proved.files else ""
    title = f"{name}: the declaration and its op graph are equal, "
    title += where or f"on images of {height}×{width}"
    result = table(title, "op graph", *numbers, right=numbers)
    for stage in proved.stages:
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


def files_table(proved: Proved) -> Table:
    """Return what was compared of files: how many numbers of each group are equal."""
    height, width = proved.files[0].size
    title = f"{proved.network.name}: the files as traced, on images of {height}×{width}"
    rows = ((f"{each.backend} {each.option}", each) for each in proved.files)
    return proof_table(title, "file", rows)


def proof_table(title: str, what: str, proofs: Iterable[tuple[str, FileProof]]) -> Table:
    """Return a row for each comparison of a traced program."""
    numbers = ("operators", *_GROUPS.values(), "error probability", "s")
    result = table(title, what, *numbers, right=numbers)
    for name, each in proofs:
        result.add_row(
            mark(each.ok, name),
            f"{sum(each.operators):,}",
            *(f"{each.compared[key]:,}" if key in each.compared else "" for key in _GROUPS),
            _power(each),
            f"{each.seconds:.1f}",
        )
    return result


def notes(proved: Proved) -> Iterator[str]:
    """Return sentences on differences."""
    for each in proved.files:
        name = f"{each.backend} {each.option}"
        if each.difference is not None:
            yield f"{name} differs: {each.difference}"
        elif not each.ok:
            yield f"{name}: equal, but the error probability is not below 2^-60"


def _power(proof: FileProof) -> str:
    """The bound as a power of 2."""
    from math import floor, log2

    return "" if proof.difference else f"2^{floor(log2(max(proof.bound, WANTED**8)))}"
