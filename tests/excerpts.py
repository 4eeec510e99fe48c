"""Excerpts of printed graphs, before and after a pass, in golden files that were read."""

from __future__ import annotations

from pathlib import Path

from cliquegraph import Graph, print_graph
from cliquegraph.passes.pipeline import Pass, run_passes

GOLDEN = Path(__file__).parent / "golden"


def excerpt(graph: Graph, *places: str) -> str:
    """The lines of a printed graph under the comments that begin with one of ``places``."""
    kept: list[str] = []
    wanted = False
    for line in print_graph(graph).splitlines():
        if line.startswith(("  # ", "  return")):
            wanted = line.removeprefix("  # ").startswith(places)
        if wanted:
            kept.append(line)
    return "\n".join(kept)


def before_and_after(graph: Graph, each: Pass, *places: str) -> str:
    """What a pass does to some parts of a graph; something, or it would not be shown."""
    before, after = (excerpt(g, *places) for g in (graph, run_passes(graph, [each])))
    assert before != after
    return f"before {each.name}\n{before}\nafter\n{after}\n"


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
