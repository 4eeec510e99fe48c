"""Nothing that a stranger's spec says becomes code, or a file of its choice."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.emit.header import origin_lines
from cliquegraph.plugins.backends import find_backend
from cliquegraph.spec.load import load, loads
from tests.command import Run

SPEC = """\
cliquegraph: 1
name: NAME
class_name: CLASS
input: {channels: 1, height: 4, width: 4}
stem: {filters: 2}
blocks: [{layers: 2, filters: 2}]
classifier: {classes: 2}
"""
BACKENDS = ("torch", "flax")
ATTACK = '"""\nimport os\nos.system("touch pwned")\n"""'


def text(name: str = "example", class_name: str = "Example") -> str:
    spec = SPEC.replace("NAME", json.dumps(name, ensure_ascii=False))
    return spec.replace("CLASS", json.dumps(class_name, ensure_ascii=False))


NAMES = [
    *("it's", 'a"b', "a\\b", "a\nb", "a\n", "\na", "a b", ATTACK, "a*/b", "a#b", "a;b", "a:b"),
    *("{{7*7}}", "{% raw %}", "${PATH}", "%s", "<script>", "a&b", "--flag", "a\tb", "a\r"),
    *("/etc/passwd", "../up", "..", ".", "", "a/b", "a.b", "a.py", "~", "C:\\a"),
    *("аdmin", "ｎame", "na\u200bme", "\u202eman", "name\u2028", "naïve", "ﬁt", "𝒏et"),
    *("class", "def", "import", "lambda", "with", "async", "Example", "_a", "__init__", "1a"),
    *("typing", "functools", "os", "sys", "collections", "code"),
]

CLASSES = [
    *("it's", 'A"b', "A\nb", "A\n", "A b", ATTACK, "A*/b", "{{A}}", "A.B", "A_b", "a", "1A", ""),
    *("Аdmin", "Ｎame", "Na\u200bme", "\u202eMan", "Ünet"),
    *("True", "False", "None", "forward", "training", "parameters", "nn", "nnx", "__class__"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_none_is_refused_where_it_stands(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text(name))
    (found,) = caught.value.diagnostics
    assert found.location is not None
    assert (found.location.line, found.location.column) == (2, 7)
    assert str(found.code) in ("wrong-value", "reserved-name")


@pytest.mark.parametrize("name", CLASSES, ids=ascii)
def test_a_class_name_that_is_none_is_refused_where_it_stands(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text(class_name=name))
    (found,) = caught.value.diagnostics
    assert found.location is not None
    assert (found.location.line, found.location.column) == (3, 13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["Feature", "Tensor", "Exception", "NamedTuple"])
def test_a_class_that_files_need_is_refused_where_it_stands(name: str, backend: str) -> None:
    if (name, backend) == ("Tensor", "flax"):
        return
    with pytest.raises(SpecError) as caught:
        Compilation(loads(text(class_name=name))).source(find_backend(backend))
    (found,) = caught.value.diagnostics
    assert found.location is not None
    assert (found.location.line, str(found.code)) == (3, "reserved-name")


IMPORTED = """
import sys
{}
found = {{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names
print(*(name for name in found if name.islower() and name.isidentifier()))
"""
STATEMENTS = {
    "torch": "import torch, torch.utils.checkpoint; torch.nn.Linear(1, 1)(torch.ones(1, 1))",
    "flax": "import jax, optax; from flax import nnx; jax.jit(lambda x: x + 1)(1.0)",
}


@pytest.mark.parametrize("backend", STATEMENTS)
def test_what_a_framework_imports_is_no_name_for_a_file(backend: str) -> None:
    pytest.importorskip(backend)
    if pytest.importorskip("torch").version.cuda is not None:
        pytest.skip("what CUDA builds import differs from machine to machine")
    code = IMPORTED.format(STATEMENTS[backend])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name for name in ran.stdout.split() if name[0] != "_"}
    # Made in memory, so that no file is looked for; imported by Debian's Python at its start.
    names -= {"cython_runtime", "sitecustomize", "usercustomize", "apport_python_hook"}
    assert names <= find_backend(backend).modules


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        *(("torch", name) for name in ("torch", "numpy", "typing_extensions", "sympy")),
        *(("flax", name) for name in ("flax", "jax", "jaxlib", "optax", "ml_dtypes")),
    ],
)
def test_a_file_that_would_hide_the_framework_is_refused(backend: str, name: str) -> None:
    with pytest.raises(SpecError) as caught:
        Compilation(loads(text(name))).source(find_backend(backend))
    (found,) = caught.value.diagnostics
    assert found.location is not None
    assert (found.location.line, str(found.code)) == (2, "reserved-name")


FILES = [
    *("it's.yaml", 'a"b.yaml', 'a"""b.yaml', '"""', "a\\", "a\\N{BULLET}\\x41\\u0041.yaml"),
    *(ATTACK, "a\r\nb.yaml", "\x1b[2Ja.yaml", "*⁄ --> ]]> a.yaml", "#.yaml", "a*b.yaml"),
    *("{{7*7}}{%raw%}{#.yaml", "${HOME}$(id)`id`.yaml", "%s%n{0}.yaml", "[bold]a[-].yaml"),
    *("\u202elmay.yaml", "a\u2028b\u2029.yaml", "a\u200b\ufeff.yaml", "аa.yaml"),
    *("<img src=x onerror=alert(1)>.yaml", "<!--<script>.yaml", "--flag.yaml", "\udcff.yaml"),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_name_of_the_file_is_a_word_in_a_docstring(backend: str) -> None:
    network = loads(text())

    def source(path: str, overrides: tuple[str, ...] = ()) -> str:
        lines = origin_lines(path, backend, ["-O1"], overrides)
        assert len(lines) == 2
        return Compilation(network).source(find_backend(backend), lines)

    plain = ast.parse(source("plain.yaml"))
    for written in [*(source(each) for each in FILES), source("a", tuple(FILES))]:
        assert all(c.isprintable() or c == "\n" for c in written)
        tree = ast.parse(written)
        assert ast.get_docstring(tree) is not None
        assert [ast.dump(node) for node in tree.body[1:]] == [
            ast.dump(node) for node in plain.body[1:]
        ]


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_no_output_holds_the_name_of_the_file_as_it_is(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / (name.replace("/", "_"))
    path.write_text(text())
    faulty = tmp_path / f"x{name.replace('/', '_')}"
    faulty.write_text(text() + f"{json.dumps(name)}: 1\n")
    for words in (("compile", "--check", "--backend", "torch"), ("check",), ("summary",)):
        for each in (path, faulty):
            ran = run(*words[:1], str(each), *words[1:])
            assert "Traceback" not in ran.err
            assert all(c.isprintable() or c == "\n" for c in ran.out + ran.err)
            json.loads(run("check", str(each), "--json").out)
    ran = run("diff", str(path), str(path))
    assert ran.code == 0
    assert all(c.isprintable() or c == "\n" for c in ran.out)


@pytest.mark.parametrize("form", ["dot", "json", "svg"])
@pytest.mark.parametrize("view", ["loop", "steps", "network"])
def test_pictures_do_not_depend_on_the_name_of_the_file(
    form: str, view: str, tmp_path: Path
) -> None:
    from cliquegraph.draw.render import Request, render
    from cliquegraph.steps.unroll import unroll

    (tmp_path / "plain.yaml").write_text(text())
    (tmp_path / FILES[2]).write_text(text())
    plain, hostile = (
        render(unroll(load(tmp_path / name)), Request(view), form)
        for name in ("plain.yaml", FILES[2])
    )
    assert plain == hostile


def test_a_page_shows_the_name_of_the_file_as_text() -> None:
    from cliquegraph.draw.page import page
    from cliquegraph.steps.unroll import unroll

    plain = page(unroll(loads(text(), "plain.yaml"))).decode()
    for name in (*FILES, "</script><script>alert(1)</script>.yaml", "a</style>.yaml"):
        shown = page(unroll(loads(text(), name))).decode()
        for sign in "<>":
            assert shown.count(sign) == plain.count(sign), name
        assert all(c.isprintable() or c == "\n" for c in shown)


def test_a_link_in_the_output_folder_leads_nowhere_else(run: Run, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    out = tmp_path / "out"
    (out / "torch").mkdir(parents=True)
    link = out / "torch" / "quickstart.py"
    link.symlink_to(precious)
    words = ("compile", "specs/quickstart.yaml", "--backend", "torch", "--out", str(out))
    for check in ((), ("--check",)):
        ran = run(*words, *check)
        assert (ran.code, ran.out) == (2, "")
        assert "a link leads out of" in ran.err
    link.unlink()
    (out / "torch").rmdir()
    (out / "torch").symlink_to(tmp_path)
    assert run(*words).code == 2
    assert precious.read_text() == "mine"
    assert not (tmp_path / "quickstart.py").exists()


def test_names_that_differ_in_case_alone_are_no_two_files(run: Run, tmp_path: Path) -> None:
    for name in ("net", "Net"):
        (tmp_path / f"{name}.yaml").write_text(text(name))
    both = [str(tmp_path / f"{name}.yaml") for name in ("net", "Net")]
    ran = run("compile", *both, "--out", str(tmp_path / "out"))
    assert ran.code == 2
    assert "found 'Net'" in ran.err
    assert not (tmp_path / "out").exists()


ALLOWED = [
    *("forward", "training", "parameters", "print", "exec", "match", "type", "self", "nn", "nnx"),
    *("feature", "update", "block1", "x0", "w1", "model", "init", "a__b", "none", "nan", "null_"),
]
ALLOWED_CLASSES = [
    "Match",
    "Forward",
    "Module",
    "Any1",
    "X0",
    "NN",
    "Self",
    "CliqueBlock",
    "A",
    "Update",
    "Block2",
]

APART = """
import os, sys

backend, *paths = sys.argv[1:]
if backend == "torch":
    import torch

    def run(model):
        return model()(torch.zeros(2, 1, 4, 4))
else:
    import jax.numpy as jnp
    from flax import nnx

    def run(model):
        return model(rngs=nnx.Rngs(0))(jnp.zeros((2, 4, 4, 1)))

files = [(path, open(path).read()) for path in paths]
LOADERS = ("collections", "dataclasses", "typing", "importlib._bootstrap",
           "importlib._bootstrap_external")
watching = False


def hook(event, args):
    global watching
    if not watching:
        return
    if event == "open":
        path, mode, flags = args
        bad = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        bad = bad and str(path) != os.devnull
    elif event in ("exec", "compile"):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        bad = caller not in LOADERS and not (caller == "__main__" and is_ours())
    else:
        bad = event.startswith(("socket.", "subprocess.", "os.", "shutil.", "ctypes.dlopen"))
        bad = bad and event not in ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
    if bad:
        watching = False
        print(event, args, file=sys.stderr, flush=True)
        os._exit(3)


def is_ours():
    return sys._getframe(2).f_code is load.__code__


def load(source, path):
    scope = {"__name__": "generated"}
    exec(compile(source, path, "exec"), scope)
    return scope


def models(scope):
    return [found for name, found in scope.items() if getattr(found, "__module__", "") ==
            "generated" and hasattr(found, "forward_features")]


def all_of(files):
    for path, source in files:
        (model,) = models(load(source, path))
        yield model


run(next(all_of(files)))  # what the framework imports and compiles at first
sys.addaudithook(hook)
watching = True
for model in all_of(files):
    pass
output = run(model)
watching = False
print(len(files), tuple(output.shape))
"""
"""Executes files; ends with 3 where one does more than define and compute."""


def execute(backend: str, folder: Path) -> subprocess.CompletedProcess[str]:
    files = sorted(map(str, folder.glob("*.py")))
    return subprocess.run(
        [sys.executable, "-c", APART, backend, *files],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_generated_does_nothing_but_compute(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    found = find_backend(backend)
    for index, name in enumerate(ALLOWED):
        chosen = ALLOWED_CLASSES[index % len(ALLOWED_CLASSES)]
        origin = origin_lines(FILES[index % len(FILES)], backend, ["-O1"], FILES)
        source = Compilation(loads(text(name, chosen))).source(found, origin)
        (tmp_path / f"{name}.py").write_text(source)
    done = execute(backend, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(ALLOWED)} (2, 2)\n"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "attack",
    [
        "import os; os.system('true')",
        "open('pwned', 'w')",
        "import socket; socket.socket()",
        "exec('1')",
        "import subprocess; subprocess.Popen(['true'])",
    ],
)
def test_the_watch_sees_an_attack(attack: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = Compilation(loads(text())).source(find_backend("torch"))
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "b.py").write_text(f"{source}\n{attack}\n")
    done = execute("torch", tmp_path)
    assert done.returncode == 3, done
