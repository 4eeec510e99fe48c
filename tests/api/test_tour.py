"""The notebook ``examples/tour.ipynb``, run as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "examples" / "tour.ipynb"


@pytest.fixture(scope="module")
def outputs() -> dict[str, dict[str, str]]:
    """What each cell shows, by its id and the type of what is shown."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook: Any = nbformat.read(TOUR, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=ROOT)
    return {cell.id: shown(cell) for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell: Any) -> dict[str, str]:
    result: dict[str, str] = {}
    for output in cell.outputs:
        result |= {"printed": output.text} if output.output_type == "stream" else output.data
    return result


def number(text: str) -> float:
    return float(re.findall(r"\d[\d.e+-]*", text)[-1])


@pytest.mark.filterwarnings("default")
def test_it_runs_and_shows_what_it_describes(outputs: dict[str, dict[str, str]]) -> None:
    assert "<td" in outputs["spec"]["text/html"]
    assert "<NetworkSpec tour: 2 clique blocks" in outputs["spec"]["text/plain"]
    assert all("<svg" in outputs[cell]["image/svg+xml"] for cell in ("loop", "steps"))
    assert "<Proof: holds" in outputs["updates"]["printed"]
    assert number(outputs["training"]["printed"]) > 70
    assert number(outputs["flax"]["printed"]) < 1e-4
    assert ": ok;" in outputs["verify"]["text/plain"]
    assert number(outputs["weights"]["printed"]) < 1e-4


def test_it_is_committed_without_outputs() -> None:
    text = TOUR.read_text(encoding="utf-8")
    assert '"output_type"' not in text
    assert '"execution_count": null' in text
