"""Generated files are as short as a person would write them, and hold only what they use."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from tests.networks import EVERY_KEY, shipped

GENERATED = sorted((Path(__file__).parents[2] / "generated").glob("*/*.py"))
BACKENDS = ["torch", "flax"]


@pytest.mark.parametrize(
    ("name", "backend", "lines"),
    [
        ("cliquenet_s3", "torch", 230),
        ("cliquenet_s3", "flax", 265),
        ("resnet50", "torch", 200),
        ("resnet50", "flax", 245),
    ],
)
def test_a_file_at_o0_is_short(name: str, backend: str, lines: int) -> None:
    assert len(cliquegraph.compile(shipped(name), backend, level=0).splitlines()) <= lines


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_file_holds_what_it_uses(path: Path) -> None:
    assert [*complaints(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_at_every_level_a_file_holds_what_it_uses(name: str, backend: str) -> None:
    spec = EVERY_KEY[name]
    each = [*(Compilation(spec, level) for level in LEVELS), Compilation(spec, inference=True)]
    for compilation in each:
        assert [*complaints(compilation.source(find_backend(backend)))] == []


def test_blocks_that_differ_in_numbers_alone_are_one_class() -> None:
    source = cliquegraph.compile(shipped("cliquenet_s3"), "torch")
    assert source.count("class CliqueBlock") == 1
    # Blocks 1 and 4 of a ResNet-50 have 3 units each, of stride 1 and 2.
    source = cliquegraph.compile(shipped("resnet50"), "torch")
    assert source.count("class ResidualBlock") == 3
    assert "self.block1 = ResidualBlock(64, 256, 64)" in source
    assert "self.block4 = ResidualBlock(1024, 2048, 512, stride=2)" in source


BAD = """
import torch
from torch import nn

def helper() -> None: ...

class Net(nn.Module):
    def __init__(self, width: int, stride: int = 1) -> None:
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x, y):
        x = self.conv(x)
        return x
"""


def test_what_a_file_does_not_use_is_seen() -> None:
    assert [*complaints(BAD)] == [
        "torch is not used",
        "helper is not used",
        "Net is not used",
        "__init__: stride is not used",
        "forward: y is not used",
        "forward: x = …; return x",
    ]


def complaints(source: str) -> Iterator[str]:
    """What a reviewer would strike out of a file."""
    tree = ast.parse(source)
    used = Counter(
        each.id for each in ast.walk(tree) if isinstance(each, ast.Name) and is_read(each)
    )
    exported = {each.value for each in exports(tree)}
    for each in tree.body:
        if isinstance(each, ast.ImportFrom) and each.module == "__future__":
            continue
        if isinstance(each, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name for alias in each.names]
        elif isinstance(each, ast.ClassDef | ast.FunctionDef):
            names = [each.name]
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            names = [each.target.id]
        else:
            continue
        yield from (
            f"{name} is not used" for name in names if not used[name] and name not in exported
        )
    for function in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)):
        yield from unused_parameters(function)
        yield from named_for_the_return(function)


def is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def exports(tree: ast.Module) -> Iterator[ast.Constant]:
    for each in tree.body:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__all__":
            yield from (item for item in ast.walk(each) if isinstance(item, ast.Constant))


def unused_parameters(function: ast.FunctionDef) -> Iterator[str]:
    read = {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and is_read(each)}
    arguments = function.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if each.arg not in read and each.arg not in ("self", "ctx"):
            yield f"{function.name}: {each.arg} is not used"


def named_for_the_return(function: ast.FunctionDef) -> Iterator[str]:
    """A name that only a type makes necessary stands with it: mypy knows no module's result."""
    for body in (each.body for each in ast.walk(function) if hasattr(each, "body")):
        for before, after in pairwise(body) if isinstance(body, list) else ():
            if isinstance(before, ast.Assign) and isinstance(after, ast.Return):
                target = ast.unparse(before.targets[0])
                if after.value is not None and target == ast.unparse(after.value):
                    yield f"{function.name}: {target} = …; return {target}"
