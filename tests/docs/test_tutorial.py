"""The tutorial, typed as printed in an empty folder with the wheel alone."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

import cliquegraph
from tests.packaging.environments import ROOT, build, environment, link, required

for needed in ("hatchling", "torch", "pytorch_lightning", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
INSTALL, *STEPS = re.findall(
    r"^```sh\n(.*?)^```(?:\n\n```(?:text|yaml)\n(.*?)^```)?", PAGE, re.DOTALL | re.MULTILINE
)
PIP = re.compile(r"^pip install '\./(cliquegraph-.+\.whl)\[(.+)\]' (.+)$", re.MULTILINE)
FAILS = "cliquegraph check mine.yaml\n"  # where the figures are still those of quickstart
MEASURED = re.compile(r"\d+\.\d+(e-\d+)?|\d+(?= s\b)")  # times, losses, accuracies
EXACT = ("cat", "cliquegraph check", "cliquegraph summary", "cliquegraph steps", "python", "sed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder but for the environment that the tutorial's first commands create."""
    folder = tmp_path_factory.mktemp("tutorial")
    install = PIP.search(INSTALL[0])
    assert install is not None
    wheel = build("wheel", tmp_path_factory.mktemp("wheel"))
    assert wheel.name == install[1]
    python = environment(folder / ".venv", wheel, *install[2].split(","))
    (site,) = python.parents[1].glob("lib/*/site-packages")
    for name in install[3].split():
        for package in (distribution(name), *required(distribution(name), ())):
            link(package, site)
    return folder


def lines(text: str, *, exact: bool) -> list[str]:
    """Lines without blanks at their ends; what is measured is replaced unless ``exact``."""
    text = text if exact else MEASURED.sub("#", text)
    return [re.sub(r" {2,}|─+", "  ", line).rstrip() for line in text.splitlines() if line.strip()]


def assert_shown(shown: str, printed: str, *, exact: bool) -> None:
    """Every line shown was printed, in this order; only `…` stands for lines left out."""
    rest = lines(printed, exact=exact)
    skipping = False
    for line in lines(shown, exact=exact):
        if line == "…":
            skipping = True
            continue
        assert line in rest, f"{line!r} is not among the lines that remain:\n" + "\n".join(rest)
        index = rest.index(line)
        assert skipping or index == 0, f"not shown: {rest[:index]}"
        rest, skipping = rest[index + 1 :], False
    assert skipping or not rest, f"not shown: {rest}"


def test_each_command_prints_what_is_shown(folder: Path) -> None:
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST")
    shell = {name: value for name, value in os.environ.items() if name not in hidden}
    shell["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{shell['PATH']}"
    for index, (commands, shown) in enumerate(STEPS):
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", commands],
            cwd=folder,
            env=shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        first = commands == FAILS and commands not in [each for each, _ in STEPS[:index]]
        assert done.returncode == (1 if first else 0), commands + done.stdout
        assert_shown(shown, done.stdout, exact=commands.startswith(EXACT))
    logged = (folder / "runs" / "mine-torch" / "metrics.csv").read_text().splitlines()
    last = dict(zip(logged[0].split(","), logged[-1].split(","), strict=True))
    assert float(last["test_top1"]) > 0.85, last


def test_the_version_in_the_wheels_name_is_this_one() -> None:
    assert set(re.findall(r"cliquegraph-(.+?)-py3", PAGE)) == {cliquegraph.__version__}


def test_a_line_that_is_not_printed_is_noticed() -> None:
    assert_shown("a\n…\nc\n", "a\nb\nc\n", exact=True)
    for wrong in ("a\nb\n", "a\nc\n", "a\n…\nd\n", "b\n…\n"):
        with pytest.raises(AssertionError):
            assert_shown(wrong, "a\nb\nc\n", exact=True)
