"""The documentation site has every page, and everything that it refers to."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

import cliquegraph
from cliquegraph import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
SITE_TOOLS = ROOT / ".venv" / "docs" / "bin" / "mkdocs"  # of `make docs`


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for each in nav.values() if isinstance(nav, dict) else nav:
        yield from pages(each)


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "website" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(pages(read_yaml(ROOT / "mkdocs.yml")["nav"])) == PAGES


def test_the_build_is_strict_and_its_files_exist() -> None:
    config = read_yaml(ROOT / "mkdocs.yml")
    assert config["strict"] is True
    for path in config["hooks"]:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (DOCS / page).parent.joinpath(target).exists(), target


def test_links_that_leave_the_site_lead_to_the_repository_or_nowhere() -> None:
    rewrite = hook("links").rewrite_links
    inside = "[a](../spec.md#stem) ![b](../pictures/loop.svg) [c](https://x.org) [d](#e)"
    assert rewrite(inside, "how-to/freeze.md", None) == inside
    outside = "see [serve.py](../examples/serve.py), [tests](../tests)"
    assert rewrite(outside, "deployment.md", None) == "see serve.py, tests"
    assert rewrite(outside, "deployment.md", "https://x.org/r/") == (
        "see [serve.py](https://x.org/r/blob/main/examples/serve.py), "
        "[tests](https://x.org/r/blob/main/tests)"
    )


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: cliquegraph\.(\w+)$", text, re.MULTILINE)
    source = (ROOT / "cliquegraph" / "__init__.py").read_text(encoding="utf-8")
    assert sorted(documented) == sorted(re.findall(r"import \w+ as (\w+)$", source, re.MULTILINE))
    assert all(hasattr(cliquegraph, name) for name in documented)


@pytest.mark.parametrize(
    "name", [name for name in vars(cliquegraph) if inspect.isfunction(getattr(cliquegraph, name))]
)
def test_the_reference_describes_every_argument(name: str) -> None:
    function = getattr(cliquegraph, name)
    _, _, arguments = (inspect.getdoc(function) or "").partition("Args:\n")
    described = re.findall(r"^    ([a-z_, ]+):", arguments, re.MULTILINE)
    names = {each for line in described for each in line.split(", ")}
    assert inspect.signature(function).parameters.keys() <= names


def test_the_reference_of_commands_has_each_with_its_options() -> None:
    text = hook("reference").command_line()
    for words, command in commands(typer.main.get_command(cli.app), "cliquegraph"):
        assert f"`{words}`\n" in text
        section = text.split(f"`{words}`\n", 1)[1].split("\n#", 1)[0]
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                assert option.opts[-1] in section, (words, option.opts)


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, each in getattr(command, "commands", {}).items():
        yield f"{words} {name}", each
        yield from commands(each, f"{words} {name}")


def test_the_reference_of_keys_is_that_of_the_schema() -> None:
    text = hook("reference").spec_keys()
    schema = YAML(typ="safe", pure=True).load(
        (ROOT / "specs" / "cliquegraph.schema.json").read_text(encoding="utf-8")
    )
    for section in (schema, *schema["$defs"].values()):
        for key in section.get("properties", ()):
            assert f"\n| `{key}` | " in text, key
    anchors = set(re.findall(r"\{ #([\w-]+) \}", text))
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors
    row = "| `stages` | integer, ≥ 1, ≤ 64 | `2` | how many times the layers are visited; "
    assert row in text


@pytest.mark.parametrize("page", HOW_TO, ids=[path.stem for path in HOW_TO])
def test_the_commands_of_how_to_pages_have_these_options(page: Path) -> None:
    known = dict(commands(typer.main.get_command(cli.app), "cliquegraph"))
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ *(?:torchrun .*)?(cliquegraph .*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line)
        name = max((n for n in known if line.startswith(f"{n} ")), key=len)
        options = {each for param in known[name].params for each in param.opts}
        for word in words:
            assert not word.startswith("-") or word in options, line


def test_the_snippet_on_moving_weights_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("flax")
    text = (DOCS / "how-to" / "move-weights.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, check=True, capture_output=True)


def test_the_snippet_on_freezing_in_flax_trains_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("flax")
    text = (DOCS / "how-to" / "freeze.md").read_text(encoding="utf-8")
    snippet = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    check = """
import jax
import jax.numpy as jnp

before = jax.tree.map(jnp.copy, nnx.state(model))
step(model, optimizer, jax.random.normal(jax.random.key(0), (4, 8, 8, 1)), jnp.arange(4))
same = jax.tree.map(lambda a, b: bool((a == b).all()), before, nnx.state(model))
assert all(jax.tree.leaves([same[part] for part in frozen]))
assert not any(jax.tree.leaves([same["transition1"]["conv"], same["classifier"]]))
"""
    words = [sys.executable, "-c", snippet + check]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)


def test_the_strict_build_passes(tmp_path: Path) -> None:
    if not SITE_TOOLS.exists():
        pytest.skip("MkDocs is not installed: make docs")
    words = [str(SITE_TOOLS), "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in PAGES:
        folder = tmp_path / "site" / page.removesuffix(".md").removesuffix("index")
        assert (folder / "index.html").exists(), page


def test_pre_commit_has_the_pinned_ruff() -> None:
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    first = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"][0]
    assert first["rev"] == f"v{pinned[1]}"


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == cliquegraph.__version__
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Yang",
        "Zhong",
        "Shen",
        "Lin",
    ]
    assert paper["url"].endswith("1802.10419")


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.stem)
def test_the_files_for_github_are_yaml(path: Path) -> None:
    document = read_yaml(path)
    if path.parent.name == "ISSUE_TEMPLATE" and path.stem != "config":
        assert {"name", "description", "body"} <= set(document)
