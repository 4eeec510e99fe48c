"""Generated files: deterministic, tidy, and in the paper's words, whatever the backend."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import BackendError, ExpectError, SpecError
from cliquegraph.emit.outline import outline
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from tests.networks import EVERY_KEY, SPECS, clique, graph_of, network, shipped

BACKENDS = ["torch", "flax"]
ROOT = Path(__file__).parents[2]


def compilations(spec: NetworkSpec) -> dict[str, Compilation]:
    levels = {f"o{level}": Compilation(spec, level) for level in LEVELS}
    return {**levels, "inference": Compilation(spec, inference=True)}


def python(script: str, *arguments: str, **environment: str) -> str:
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- bytes ---------------------------------------------------------------------------------

COMPILE = """
import sys
import cliquegraph
for backend in ("torch", "flax"):
    sys.stdout.write(cliquegraph.compile(cliquegraph.load(sys.argv[1]), backend))
"""


def test_the_bytes_do_not_depend_on_the_order_of_hashes() -> None:
    spec = str(SPECS / "cliquenet_s0.yaml")
    one, other = (python(COMPILE, spec, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert one == other
    assert one == "".join(cliquegraph.compile(shipped("cliquenet_s0"), name) for name in BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_says_where_it_comes_from_and_nothing_of_this_machine(backend: str) -> None:
    spec = shipped("quickstart")
    chosen = find_backend(backend)
    source = Compilation(spec).source(chosen, ["    spec:       specs/quickstart.yaml"])
    head = ast.get_docstring(ast.parse(source)) or ""
    assert "specs/quickstart.yaml" in head
    assert f"sha256 {graph_of(spec).digest()}" in head
    assert "72,994 parameters, 3,004,960 MACs" in head
    assert "expected:   parameters 72994, " in head
    assert str(ROOT) not in source
    assert not re.search(r"20\d\d-\d\d", source)


@pytest.mark.parametrize(
    ("backend", "level", "lines"),
    [("torch", 0, 250), ("flax", 0, 265), ("torch", 1, 1315), ("flax", 1, 460)],
)
def test_s3_is_short(backend: str, level: int, lines: int) -> None:
    source = cliquegraph.compile(shipped("cliquenet_s3"), backend, level=level)
    assert len(source.splitlines()) <= lines


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_that_refuses_uses_says_which(backend: str) -> None:
    for name in ("defaults", "post_activation"):
        for level in LEVELS:
            doc = ast.get_docstring(
                ast.parse(cliquegraph.compile(EVERY_KEY[name], backend, level=level))
            )
            assert ("compile at -O0." in (doc or "")) == (level > 0 and backend == "torch")


def test_files_are_as_a_formatter_and_a_linter_want_them(tmp_path: Path) -> None:
    specs = {**EVERY_KEY, "s3": shipped("cliquenet_s3"), "wide": WIDE}
    for name, spec in specs.items():
        for which, compilation in compilations(spec).items():
            for backend in BACKENDS:
                source = compilation.source(find_backend(backend))
                file = tmp_path / f"{name}_{backend}_{which}.py"
                file.write_text(source, encoding="utf-8")
    options = ["--isolated", "--line-length", "100", "--target-version", "py311"]
    rules = ["--select", "E,F,W,I,UP,B,C4,SIM,PIE,N", "--ignore", "N812"]
    # Long lists of names stand in rows, which is no formatter's way.
    in_rows = ["--exclude", "wide_*"]
    for command in (["check", *rules], ["format", "--check", "--diff", *in_rows]):
        ruff = [sys.executable, "-m", "ruff", *command, *options, str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# Long lists, long names, many blocks: where lines must break.
WIDE = network(
    {"layers": 16, "filters": 128, "stages": 3, "order": tuple(range(16, 0, -1))},
    *[{"layers": 2, "filters": 3}] * 12,
    name="a_network_of_a_rather_long_name_" * 2,
    input={"channels": 2, "height": 8192, "width": 8192},
)


# ---- words ---------------------------------------------------------------------------------


def table_1(source: str) -> list[str]:
    return re.findall(r"# (stage \d+: .* -> X\d+)", source)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_update_stands_under_its_line_of_table_1(backend: str, level: int) -> None:
    assert table_1(cliquegraph.compile(clique(layers=3), backend, level=level)) == [
        "stage 1: X0 -> X1",
        "stage 1: X0 X1 -> X2",
        "stage 1: X0 X1 X2 -> X3",
        "stage 2: X2 X3 -> X1",
        "stage 2: X3 X1 -> X2",
        "stage 2: X1 X2 -> X3",
    ]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_the_same_value_has_the_same_name_in_every_backend(name: str, level: int) -> None:
    torch_names, flax_names = (
        {
            each.id
            for each in ast.walk(
                ast.parse(cliquegraph.compile(EVERY_KEY[name], backend, level=level))
            )
            if isinstance(each, ast.Name) and re.fullmatch(r"x\d+_\d+|\w*\d", each.id)
        }
        for backend in BACKENDS
    )
    values = {each for each in torch_names if re.fullmatch(r"x\d+_\d+|feature\d|pooled\d", each)}
    assert values
    assert values <= flax_names


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_named_value_of_the_graph_is_in_the_file(backend: str) -> None:
    spec = EVERY_KEY["schedule"]
    for level in LEVELS:
        source = cliquegraph.compile(spec, backend, level=level)
        for node in graph_of(spec):
            if node.origin.layer is not None and node.output.hint:
                called = rf"\b{node.output.hint}\b.* = (slab\.put\(\s*)?self\.update"
                assert re.search(called, source)


def test_steps_that_nobody_reads_are_taken_literally_and_say_so() -> None:
    # Stage 2 of a last (I+II) block moves running statistics, which are the network's.
    source = cliquegraph.compile(clique(feature=1), "torch", level=0)
    assert "# stage 2: X1 X2 -> X3, which nothing reads\n        x3_2 = self.update3_2(" in source


@pytest.mark.parametrize("backend", BACKENDS)
def test_above_that_they_are_held_for_their_weights_and_say_so(backend: str) -> None:
    source = cliquegraph.compile(clique(feature=1), backend, level=1)
    comment = "# not called: unused, but retained for their weights\n"
    members, calls = source.split("class CliqueBlock")[1].split(
        "def forward" if backend == "torch" else "def __call__"
    )[:2]
    assert re.search(
        rf"{comment} +self\.update1_2 = Update\(.*\n +self\.update2_2 = Update\(", members
    )
    assert "update1_1" in calls
    assert "update1_2" not in calls


# ---- what can't be written -----------------------------------------------------------------


@pytest.mark.parametrize(("backend", "name"), [("torch", "Tensor"), ("flax", "Array")])
def test_a_class_that_would_hide_a_name_of_the_file_is_refused(backend: str, name: str) -> None:
    spec = clique().model_copy(update={"class_name": name})
    with pytest.raises(SpecError, match=f"the class {name} would shadow a name that {backend}"):
        cliquegraph.compile(spec, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_name_that_a_file_uses_for_something_else_is_reserved(backend: str) -> None:
    reserved = find_backend(backend).reserved
    for spec in EVERY_KEY.values():
        for compilation in compilations(spec).values():
            view = outline(compilation.steps, compilation.graph, (), reserved)
            classes = {view.class_name, *(each.name for each in view.classes)}
            tree = ast.parse(compilation.source(find_backend(backend)))
            assert set(names_of_module(tree)) - classes <= reserved


def names_of_module(tree: ast.Module) -> Iterator[str]:
    for each in tree.body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef):
            yield each.name
        elif isinstance(each, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in each.names)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["Stem", "Update", "CliqueBlock", "Transition", "Readout"])
def test_a_class_called_as_one_of_the_files_own_makes_that_step_aside(
    backend: str, name: str
) -> None:
    spec = EVERY_KEY["defaults"].model_copy(update={"class_name": name})
    tree = ast.parse(cliquegraph.compile(spec, backend))
    classes = [each.name for each in tree.body if isinstance(each, ast.ClassDef)]
    assert len(set(classes)) == len(classes)
    assert classes[-1] == name
    assert f"{name}2" in classes


def test_figures_that_do_not_hold_are_not_compiled() -> None:
    spec = shipped("quickstart", "expect.parameters=72995")
    with pytest.raises(ExpectError) as caught:
        cliquegraph.compile(spec, "torch")
    assert "expected parameters 72995, but the network has 72,994" in str(caught.value)
    assert caught.value.exit_code == 1


def test_an_unknown_backend_is_the_users_error() -> None:
    with pytest.raises(BackendError, match="there is no backend 'fortran'; installed: "):
        cliquegraph.compile(clique(), "fortran")


# ---- imports -------------------------------------------------------------------------------

HYGIENE = """
import sys
import cliquegraph
spec = cliquegraph.load("specs/cliquenet_s3.yaml")
steps = cliquegraph.unroll(spec)
assert cliquegraph.prove_sharing(steps).holds
assert "class CliqueNetS3" in cliquegraph.compile(spec, sys.argv[1])
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"torch", "jax", "jaxlib", "flax", "optax"}))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiling_imports_no_framework(backend: str) -> None:
    assert python(HYGIENE, backend).split() == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_generated_file_imports_its_framework_alone(backend: str) -> None:
    sources = [
        each.source(find_backend(backend)) for each in compilations(EVERY_KEY["dropout"]).values()
    ]
    tree = ast.parse("\n".join(sources))
    imported = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    allowed = {"torch": {"torch"}, "flax": {"flax", "jax", "numpy"}}
    assert imported - sys.stdlib_module_names <= allowed[backend]
