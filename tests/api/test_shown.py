"""What people see of networks, in a terminal and in a notebook."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError
from tests.command import Run

ROOT = Path(__file__).resolve().parents[2]
SPEC = cliquegraph.load(ROOT / "specs" / "quickstart.yaml")
STEPS = cliquegraph.unroll(SPEC)
GRAPH = cliquegraph.lower(STEPS)


def test_each_is_one_line() -> None:
    assert list(
        map(
            repr,
            (
                SPEC,
                STEPS,
                STEPS.blocks[0],
                GRAPH,
                cliquegraph.network_cost(GRAPH),
                cliquegraph.prove_sharing(STEPS),
                cliquegraph.memory_plan(SPEC, batch=8),
                cliquegraph.render(SPEC),
                Compilation(SPEC),
            ),
        )
    ) == [
        "<NetworkSpec quickstart: 2 clique blocks, 1×8×8 → 10 classes>",
        "<StepGraph quickstart: 2 blocks, 16 updates>",
        "<BlockSteps 1: clique, 4 layers × 12 filters, 8 updates>",
        "<Graph quickstart: 93 nodes, 126 tensors, 1x8x8 → 10>",
        "<NetworkCost: 72,994 parameters, 3,004,960 MACs; 7 sections, 16 updates>",
        "<Proof: holds, 7 rules, 2 blocks>",
        "<MemoryPlan of a batch of 8 in float32: 2,514,816 bytes saved for backward, "
        "peak 2,885,424 bytes, 21,873,792 bytes moved>",
        "<Picture loop of quickstart; save(path) writes it>",
        "Compilation(network=<NetworkSpec quickstart: 2 clique blocks, 1×8×8 → 10 classes>, "
        "level=0, inference=False)",
    ]
    assert str(SPEC) == repr(SPEC)


def test_the_whole_text_is_at_hand() -> None:
    assert STEPS.text().splitlines()[8] == "block 2: X0 -> X1@1"
    assert len(cliquegraph.prove_sharing(STEPS).text().splitlines()) == 14
    assert len(cliquegraph.print_graph(GRAPH).splitlines()) > 93


def test_a_verification_says_whether_it_is_ok() -> None:
    verification = cliquegraph.verify(SPEC, "torch", batch=2)
    assert repr(verification).startswith("<Verification quickstart (torch): ok; ")
    assert len(repr(verification).splitlines()) == 1
    compared = len(verification.max_error) + len(verification.max_error_float32)
    assert len(verification.text().splitlines()) == compared
    verification.max_error["logits"] = 1.0
    assert ": not ok; " in repr(verification)


def test_a_summary_is_what_the_command_prints(run: Run) -> None:
    summary = cliquegraph.summary(SPEC, level=1)
    printed = run("summary", "specs/quickstart.yaml", "-O1").out
    assert summary.text() == "\n".join(map(str.rstrip, printed.splitlines())).strip("\n")
    assert repr(summary) == str(summary) == summary.text()


def test_a_summary_shows_what_each_level_executes() -> None:
    summary = cliquegraph.summary(SPEC)
    assert summary.executed == {
        level: cliquegraph.Compilation(cliquegraph.load(SPEC), level).executed_macs
        for level in (0, 1, 2)
    }
    declared = summary.total["macs"]
    assert summary.executed[0] == declared > summary.executed[1] == summary.executed[2]
    (row,) = (line for line in summary.text().splitlines() if "executed" in line)
    assert row.split() == ["executed,", "-O1", "-O2", "3.6", "%", "less", "2.897M", "5.793M"]


def test_the_rows_of_a_summary_add_up() -> None:
    summary = cliquegraph.summary(SPEC)
    assert all(row.keys() == summary.total.keys() for row in summary.rows)
    for key in ("parameters", "macs", "flops", "activations", "saved_bytes"):
        assert sum(row[key] for row in summary.rows) == summary.total[key]
    assert [row["depth"] for row in summary.rows if row["kind"] == "clique"] == [8, 8]
    assert summary.total["depth"] == 16


def test_rows_are_ready_for_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(cliquegraph.summary(SPEC).rows)
    assert frame.parameters.sum() == 72994


def test_a_notebook_shows_a_network_as_its_summary() -> None:
    html = SPEC._repr_html_()
    assert html == cliquegraph.summary(SPEC)._repr_html_()
    table = ET.fromstring(html or "")  # noqa: S314  # our own
    rows = [[cell.text for cell in row] for row in table.iter("tr")]
    assert rows[0][0] == "section"
    assert rows[2][:3] == ["block1", "48x8x8", "23,024"]
    assert [row[0] for row in rows[-2:]] == ["total", "executed, -O1 -O2"]


def test_a_network_that_cannot_be_lowered_shows_no_table() -> None:
    network = cliquegraph.load(
        {
            "name": "shrunk",
            "input": {"channels": 1, "height": 1, "width": 1},
            "stem": {"filters": 4},
            "blocks": [{"layers": 2, "filters": 4}] * 2,
            "classifier": {"classes": 2},
        }
    )
    assert network._repr_html_() is None
    assert "shrunk" in repr(network)


def test_a_notebook_shows_steps_as_their_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    svg = STEPS._repr_svg_()
    assert svg == cliquegraph.render(STEPS)._repr_svg_()
    assert svg is not None
    assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314
    monkeypatch.setattr("cliquegraph.draw.needs.find_spec", lambda name: None)
    assert STEPS._repr_svg_() is None
    with pytest.raises(UsageError, match="pictures need"):
        _ = cliquegraph.render(STEPS).svg


@pytest.mark.parametrize("suffix", ["svg", "png", "dot", "json", "html"])
def test_pictures_are_those_of_the_command(suffix: str, tmp_path: Path, run: Run) -> None:
    mine = cliquegraph.render(SPEC).save(tmp_path / f"mine.{suffix}")
    assert run("render", "specs/quickstart.yaml", "-o", str(tmp_path / f"its.{suffix}")).code == 0
    assert mine.read_bytes() == (tmp_path / f"its.{suffix}").read_bytes()


def test_two_networks_are_compared() -> None:
    other = cliquegraph.load(SPEC, ["blocks.0.layers=5", "expect={}"])
    assert "+" in cliquegraph.render(SPEC, "steps", block=1, other=other).svg
    assert cliquegraph.render(SPEC, "network", other=other).svg


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "loops"}, "there is no view 'loops'; choose from loop, steps, network"),
        ({"view": "network", "block": 1}, "block and stage are for the views loop and steps"),
        ({"block": 3}, "quickstart has blocks 1 to 2, not 3"),
        ({"stage": 3}, "there is no stage 3; the stages are 1, 2"),
    ],
)
def test_wrong_pictures_are_refused_at_once(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cliquegraph.render(SPEC, **options)  # type: ignore[arg-type]


def test_importing_stays_fast() -> None:
    """Libraries that not every program needs are imported by the calls that need them."""
    heavy = ("torch", "jax", "rich", "jinja2", "networkx", "ruamel", "typer", "pygraphviz")
    code = f"import cliquegraph, sys; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
