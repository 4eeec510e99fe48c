"""No module outside ``blocks/`` names a kind of block, so that one is added in one file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliquegraph.plugins.kinds import kinds

ROOT = Path(__file__).parents[2]
BLOCKS = ROOT / "cliquegraph" / "blocks"
MODULES = [
    file
    for folder in ("cliquegraph", "backends")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if BLOCKS not in file.parents
]

LITERALS = {*kinds(), "residual", "recurrent", "fractal", "graph", "dasnet"}
"""The kinds that there are, and those that the language is to have."""

ALLOWED = {
    # What a checkpoint of the authors implies is a spec, and their blocks are cliques.
    ("cliquegraph/weights/official.py", "clique"),
    # Likewise of torchvision's.
    ("cliquegraph/weights/torchvision_implied.py", "residual"),
    ("cliquegraph/weights/torchvision_implied.py", "dense"),
    # A key of node-link JSON, as networkx has it.
    ("cliquegraph/ir/node_link.py", "graph"),
    ("cliquegraph/ir/serialize.py", "graph"),
}


def named(tree: ast.AST) -> Iterator[str]:
    """The kinds that a module names: in a text, a class, or where it imports one from."""
    files = {file.stem for file in BLOCKS.glob("*.py")} & LITERALS
    classes = {kind.spec.__name__: name for name, kind in kinds().items()}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text in LITERALS:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in classes:
                yield classes[name]
            case ast.ImportFrom(module=str(module)) if module.startswith("cliquegraph.blocks"):
                imported = {module.rpartition(".")[2], *(alias.name for alias in node.names)}
                yield from imported & files
                yield from (classes[name] for name in imported & classes.keys())
            case ast.Import(names=names):
                yield from {alias.name.rpartition(".")[2] for alias in names} & files


def test_modules_are_looked_at() -> None:
    assert len(MODULES) > 150


def test_no_module_outside_blocks_names_a_kind() -> None:
    found = {
        (file.relative_to(ROOT).as_posix(), name)
        for file in MODULES
        for name in named(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        'block.kind == "clique"',
        "isinstance(block, CliqueBlock)",
        "isinstance(block, clique.CliqueBlock)",
        "from cliquegraph.blocks.clique import KIND",
        "from cliquegraph.blocks import clique",
        "import cliquegraph.blocks.clique",
        "match kind:\n    case 'clique':\n        pass",
    ],
)
def test_each_way_to_name_one_is_seen(source: str) -> None:
    assert "clique" in set(named(ast.parse(source)))
