"""Counts and memory plans of small networks are what they were.

What PyTorch really keeps is in ``test_memory.py``, what the paper says in
``tests/test_figures.py``; these figures, which those tests have shown to be right, move only
where somebody wants them to: `python -m tests.analysis.test_figures_kept` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph_torch.memory import memory_plan
from tests.networks import EVERY_KEY

FILE = Path(__file__).parents[1] / "golden" / "figures.json"


def figures(spec: NetworkSpec) -> dict[str, Any]:
    total = Compilation(spec).cost
    found: dict[str, Any] = {
        "total": vars(total.total),
        "sections": {str(section): vars(cost) for section, cost in total.sections.items()},
        "steps": [str(step) for step in total.steps],
    }
    for level in LEVELS:
        graph = Compilation(spec, level).graph
        for batch, dtype in ((2, "float32"), (3, "bfloat16")):
            plan = memory_plan(graph, batch=batch, dtype=dtype)
            found[f"-O{level}, {batch} images in {dtype}"] = {
                "stored": plan.stored,
                "peak": plan.peak,
                "sections": {str(section): size for section, size in plan.sections.items()},
                "steps": [str(step) for step in plan.steps],
            }
    return found


@pytest.mark.parametrize("name", EVERY_KEY)
def test_the_figures_are_what_they_were(name: str) -> None:
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    assert json.loads(json.dumps(figures(EVERY_KEY[name]))) == kept[name]


def test_no_network_is_missing() -> None:
    assert list(json.loads(FILE.read_text(encoding="utf-8"))) == list(EVERY_KEY)


if __name__ == "__main__":
    new = {name: figures(spec) for name, spec in EVERY_KEY.items()}
    FILE.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")
