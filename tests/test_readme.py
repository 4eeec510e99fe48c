"""What the README shows is what comes out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cliquegraph
from cliquegraph import cli
from cliquegraph.compiler import Compilation

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def test_the_spec_is_the_shipped_one() -> None:
    (spec,) = blocks("yaml")
    assert cliquegraph.loads(spec) == cliquegraph.load(ROOT / "specs" / "quickstart.yaml")


def test_the_code_beside_it_is_what_it_compiles_to() -> None:
    excerpt = blocks("python")[0]
    assert excerpt in (ROOT / "generated" / "torch" / "quickstart.py").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as its user left it: with the file that an example wrote."""
    made = tmp_path_factory.mktemp("checkout")
    for name in ("specs", "generated"):
        (made / name).symlink_to(ROOT / name)
    example = ROOT / "examples" / "move_weights.py"
    subprocess.run([sys.executable, str(example)], cwd=made, check=True, capture_output=True)
    return made


@pytest.mark.parametrize("snippet", blocks("python")[1:])
def test_the_other_snippets_run(snippet: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", snippet], cwd=folder, check=True, capture_output=True)


WEIGHTS = re.findall(r"^\.venv/bin/cliquegraph (weights .*quickstart.*)$", README, re.MULTILINE)


@pytest.mark.parametrize("command", WEIGHTS)
def test_the_commands_on_weights_run(command: str, folder: Path) -> None:
    words = [sys.executable, "-m", "cliquegraph", *command.split()]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


def test_there_are_commands_on_weights() -> None:
    assert [command.split()[1] for command in WEIGHTS] == ["show", "convert", "heatmap"]


def test_every_command_of_the_table_exists_and_none_is_left_out() -> None:
    shown = set(re.findall(r"^\| `cliquegraph (\w+)", README, re.MULTILINE))
    known = {
        command.name or command.callback.__name__
        for command in cli.app.registered_commands
        if command.callback
    }
    assert shown == known | {group.typer_instance.info.name for group in cli.app.registered_groups}


def test_every_figure_of_the_table_is_computed() -> None:
    computed = set()
    for path in (ROOT / "specs").glob("*.yaml"):
        total = Compilation(cliquegraph.load(path)).cost.total
        computed |= {f"{total.parameters:,}", f"{total.flops / 1e9:.3f}G"}
    rows = re.findall(r"^\| (?:\w+Net|RCNN|with|AC).*\|$", README, re.MULTILINE)
    assert len(rows) == 28
    for row in rows:
        _, _, parameters, _, flops, _, _ = row.split("|")
        for figure in (*parameters.split(", "), flops):
            assert figure.strip() in computed, row


def test_the_message_about_a_fault_is_the_real_one() -> None:
    shown = re.search(r"```\n(spec\.yaml.*?)```", README, re.DOTALL)
    golden = (ROOT / "tests" / "invalid" / "misspelt_key.txt").read_text()
    assert shown is not None
    assert shown[1] == golden.replace("misspelt_key.yaml", "spec.yaml")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
