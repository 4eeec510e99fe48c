"""What a ``Block`` can say that no shipped kind does: edges of one layer that differ.

``mixed_kind/`` is laid out as an installed package, as ``third_kind/`` is.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.packages import run_with

FOLDER = Path(__file__).parents[1] / "mixed_kind"
# Every way to read, each of a layer's own, and every kind of layer ops, between the two.
SPECS = {
    "mean": {
        "blocks": [
            {
                "layers": 4,
                "ways": ["kernel", "small", "value"],
                "entry": "unit",
                "itself": "deep",
                "every": True,
                "combine": "mean",
                "ops": "two",
                "filters": 2,
            }
        ]
    },
    "sum": {
        "blocks": [
            {
                "layers": 4,
                "ways": ["deep", "rectified", "unit"],
                "entry": "small",
                "itself": "value",
                "ops": "skip",
                "stages": 3,
                "simultaneous": True,
                "norms": "second",
                "descending": True,
                "stride": 2,
            },
            {"layers": 2, "ways": ["small"], "entry": "kernel", "ops": "spatial"},
        ]
    },
}


def written(name: str, folder: Path) -> Path:
    document = {
        "cliquegraph": 1,
        "name": name,
        "input": {"channels": 2, "height": 4, "width": 4},
        "stem": {"filters": 2},
        "block_defaults": {"kind": "mixed", "filters": 3},
        "classifier": {"classes": 3},
        **SPECS[name],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


EXACT = """
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.proof.exact import compare_exactly

refused = compared = 0
for index in range(150):
    network = read_document(draw_spec(0, index))
    if not any(block.kind == "mixed" for block in network.blocks):
        continue
    try:
        compared += sum(1 for stage in compare_exactly(network))
    except SpecError as error:
        assert error.diagnostics[0].code is Code.SIZE, error
        refused += 1
print(compared, refused)
"""


def test_random_ones_are_lowered_as_declared_and_every_pass_keeps_that() -> None:
    compared, refused = map(int, run_with(FOLDER, "-c", EXACT).split())
    assert compared > 90
    assert refused < compared / 20


@pytest.mark.parametrize(
    ("name", "level", "backends"),
    [
        ("mean", 0, "torch"),
        ("mean", 1, "torch,flax"),
        ("sum", 0, "torch,flax"),
        ("sum", 2, "torch"),
    ],
)
def test_both_backends_compute_them(name: str, level: int, backends: str, tmp_path: Path) -> None:
    words = ["-m", "cliquegraph", "verify", str(written(name, tmp_path)), f"-O{level}"]
    run_with(FOLDER, *words, "--backends", backends)


def refusal(*overrides: str, folder: Path) -> str:
    script = """
import sys
import cliquegraph
from cliquegraph.diagnostics.errors import SpecError

try:
    cliquegraph.lower(cliquegraph.unroll(cliquegraph.load(sys.argv[1], sys.argv[2:])))
except SpecError as error:
    print(error.diagnostics[0].message, error.diagnostics[0].hint, sep="|")
"""
    return run_with(FOLDER, "-c", script, str(written("mean", folder)), *overrides).strip()


def test_what_stages_share_is_refused_where_they_read_different_widths(tmp_path: Path) -> None:
    assert refusal("blocks.0.norms=shared", "blocks.0.every=false", folder=tmp_path) == (
        "block1: updates that share block1.x2.norm read maps of different widths by it, 2 and 6|"
        "write norms: per_stage, or let all stages read the same layers"
    )


def test_a_layer_that_does_nothing_is_refused(tmp_path: Path) -> None:
    overrides = ["layers=2", "ways=[value]", "ops=none", "itself=null", "every=false"]
    assert refusal(*(f"blocks.0.{each}" for each in overrides), folder=tmp_path) == (
        "block1: X1 reads X2@1 alone, and is the same|give the edge or the layer an op"
    )


@pytest.mark.parametrize("view", ["loop", "steps", "network"])
def test_a_layer_that_reads_itself_is_drawn(view: str, tmp_path: Path) -> None:
    words = ["-m", "cliquegraph", "render", str(written("mean", tmp_path)), "--view", view]
    assert "</svg>" in run_with(FOLDER, *words)
