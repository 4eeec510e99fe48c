"""Somebody else's kind of block: one file, an entry point, and no line in the core.

``third_kind/`` is laid out as an installed package; subprocesses have it on their path.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import cliquegraph
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.kinds import kinds
from tests.packages import ROOT, run_with

FOLDER = Path(__file__).parents[1] / "third_kind"
KIND = FOLDER / "cliquegraph_ring" / "__init__.py"
SPEC = """\
cliquegraph: 1
name: rings
input: {channels: 2, height: 4, width: 4}
stem: {filters: 2}
block_defaults: {filters: 2}
blocks:
  - {kind: ring, layers: 4}
  - {kind: ring, layers: 3, stages: 3, input: every}
classifier: {classes: 3}
"""


def run(*arguments: str) -> str:
    return run_with(FOLDER, *arguments)


def command(*words: str) -> str:
    return run("-m", "cliquegraph", *words)


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rings") / "rings.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def test_it_is_not_installed_for_everybody() -> None:
    assert "ring" not in kinds()
    with pytest.raises(SpecError, match="found 'ring'"):
        cliquegraph.loads(SPEC)


def test_its_keys_are_in_the_schema_beside_ours() -> None:
    schema = json.loads(command("schema"))
    ours = json.loads((ROOT / "specs" / "cliquegraph.schema.json").read_text(encoding="utf-8"))
    ring = schema["$defs"].pop("RingBlock")
    assert list(ring["properties"]) == ["kind", "layers", "filters", "kernel", "stages", "input"]
    assert schema["$defs"] == ours["$defs"]
    blocks = schema["properties"]["blocks"]["items"]["anyOf"]
    assert blocks == [
        *ours["properties"]["blocks"]["items"]["anyOf"],
        {"$ref": "#/$defs/RingBlock"},
    ]


REFUSED = """
import sys
import cliquegraph
from cliquegraph.diagnostics.errors import SpecError

for override in sys.argv[2:]:
    try:
        cliquegraph.load(sys.argv[1], [override])
    except SpecError as error:
        for each in error.diagnostics:
            print(each.message, each.hint, sep="|")
"""


def test_a_fault_in_its_keys_is_said_as_of_ours(rings: Path) -> None:
    overrides = [
        "blocks.0.layers=1",
        "blocks.1.fliters=3",
        "blocks.1.input=last",
        "blocks.0.kind=x",
    ]
    assert run("-c", REFUSED, str(rings), *overrides).splitlines() == [
        "blocks.0.layers: must be at least 2: a layer has a neighbor|None",
        "blocks.1: unknown key 'fliters' in a ring block|did you mean 'filters'?",
        "blocks.1.input: expected 'first' or 'every', found 'last'|None",
        "blocks.0.kind: expected 'clique', 'dense', 'fractal', 'graph', 'recurrent', 'residual' "
        "or 'ring', found 'x'|None",
    ]


def test_its_schedule_is_checked_and_shown(rings: Path) -> None:
    checked = json.loads(command("check", str(rings), "--json"))
    assert json.dumps(checked).count('"holds": true') == 2 * 7
    steps = " ".join(command("steps", str(rings), "--block", "1").split())
    assert "{X0, X1@1, X3@1} {W0_2, W1_2, W3_2} X2@1" in steps
    assert "{X2@1, X4@1} {W2_1, W4_1} X1@2 Stage-II" in steps
    assert "{X1@2, X3@2} {W1_4, W3_4} X4@2" in steps


def test_it_is_counted(rings: Path) -> None:
    figures = json.loads(command("summary", str(rings), "--json"))
    kernels = 4 * (2 + 2 + 2) * 2 * 9  # each of 4 layers reads X0 and two neighbors, 2 × 3×3 each
    norms = 2 * (2 + 2 + 6 + 6) + 4 * 2 * 4  # stage 1: X1, X3: X0; X2, X4: and two neighbors
    block = figures["blocks"][0]
    assert block["kind"] == "ring"
    assert block["parameters"] == kernels + norms


@pytest.mark.parametrize("view", ["loop", "steps", "network"])
def test_it_is_drawn(view: str, rings: Path) -> None:
    assert "</svg>" in command("render", str(rings), "--view", view)


def test_its_page_says_what_it_is(rings: Path, tmp_path: Path) -> None:
    page = tmp_path / "rings.html"
    command("render", str(rings), "-o", str(page))
    assert "Block 1: ring, 4 layers × 2 filters" in page.read_text(encoding="utf-8")


COMPARES = """
import sys
import cliquegraph
from cliquegraph.steps.diff import compare_steps

ours, theirs = (
    cliquegraph.unroll(cliquegraph.load(sys.argv[1], words)) for words in ([], sys.argv[2:])
)
for each in compare_steps(ours, theirs):
    print(each.place, each.left, each.right, sep="|")
"""


def test_it_is_compared_with_another_kind(rings: Path) -> None:
    found = run("-c", COMPARES, str(rings), "blocks.0.kind=clique").splitlines()
    assert found[0] == "block 1|ring, 4 layers × 2 filters|clique, 4 layers × 2 filters"
    assert "block 1, X1@2|X2@1 X4@1|X2@1 X3@1 X4@1" in found
    assert any(each.startswith("block 1, order of updates|X1@1 X3@1 X2@1 X4@1") for each in found)


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_compiled_at_every_level_and_both_backends_compute_it(
    level: int, rings: Path
) -> None:
    backends = "torch,flax" if level == 1 else "torch"  # built-in kinds run at each in Flax
    command("verify", str(rings), "--backends", backends, f"-O{level}")


def test_its_class_is_named_in_generated_code(rings: Path, tmp_path: Path) -> None:
    command("compile", str(rings), "--backend", "all", "--out", str(tmp_path))
    for backend in ("torch", "flax"):
        source = (tmp_path / backend / "rings.py").read_text(encoding="utf-8")
        assert re.search(r"class RingUpdate\(.*\):\n    \"\"\"One update of a ring", source)


FUZZES = """
import cliquegraph
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.fuzz.cover import all_uses, coverage, uses_of
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.fuzz.shrink import shrink

drawn = [draw_spec(0, index) for index in range(150)]
counted = coverage(uses_of(spec, read_document(spec)) for spec in drawn)
print(*(use for use, count in counted.items() if use[0].startswith("ring.") and not count))

def has_three(document):
    try:
        network = read_document(document)
    except SpecError:
        return False
    return any(block.kind == "ring" and block.layers > 2 for block in network.blocks)

print(shrink(next(filter(has_three, drawn)), has_three)["blocks"])
"""


def test_random_networks_have_all_of_its_keys_and_shrink_to_it() -> None:
    unused, small = run("-c", FUZZES).splitlines()
    assert not unused
    assert small == "[{'kind': 'ring', 'layers': 3, 'filters': 1, 'stages': 1}]"


def test_fuzz_verifies_networks_with_it(tmp_path: Path) -> None:
    words = (
        "--start",
        "19",
        "--count",
        "3",
        "--backends",
        "torch",
        "-O1",
        "--json",
        "--out",
        str(tmp_path),
    )
    outcome = json.loads(command("fuzz", *words))
    assert outcome["ok"], outcome["failures"]
    assert outcome["coverage"]["ring.kind: ring"]


GUIDE = (ROOT / "docs" / "blocks.md").read_text(encoding="utf-8")


def test_what_the_guide_shows_is_this_kind() -> None:
    excerpts = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    source = KIND.read_text(encoding="utf-8")
    for excerpt in excerpts:
        assert excerpt in source
    typed = [line for excerpt in excerpts for line in excerpt.splitlines() if line]
    _docstring, *lines = filter(None, source.splitlines())
    assert typed == lines  # whoever types the page has the whole file
    (spec,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert spec == SPEC
