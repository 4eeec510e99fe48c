"""The wheel and the source distribution, as a user gets them."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.environments import ROOT, build, environment

pytest.importorskip("hatchling", reason="hatchling is not installed")

CACHES = (".import_linter_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", "__pycache__")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)  # noqa: S202  # built here
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the wheel and its dependencies alone."""
    return environment(tmp_path_factory.mktemp("bare") / "venv", wheel)


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def ran(python: Path, folder: Path, *words: str, code: int = 0) -> str:
    """What a command prints in a folder, with nothing of this checkout on the path."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST")
    done = subprocess.run(
        [str(python), *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def cliquegraph(python: Path, folder: Path, *words: str, code: int = 0) -> str:
    return ran(python.with_name("cliquegraph"), folder, *words, code=code)


# ---- what is in them ---------------------------------------------------------------------


def test_the_wheel_has_the_specs_and_nothing_but_the_packages(wheel: Path) -> None:
    files = names(wheel)
    specs = {path.name for path in (ROOT / "specs").iterdir() if path.suffix in (".yaml", ".json")}
    assert {name.rpartition("/")[2] for name in files if "/specs/" in name} == specs
    kinds = {Path(name).suffix for name in files if ".dist-info/" not in name}
    assert kinds == {".py", ".jinja", ".yaml", ".json", ".typed"}
    tops = {name.split("/")[0] for name in files}
    assert {top for top in tops if "." not in top} == {
        *("cliquegraph", "cliquegraph_torch", "cliquegraph_flax")
    }


def test_the_metadata_has_urls_and_no_link_that_breaks(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert "Paper, https://arxiv.org/abs/1802.10419" in metadata.get_all("Project-URL", [])
    text = metadata.get_payload()
    assert "# cliquegraph\n" in text and "The commands" in text
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(target.startswith("https://") for target in targets)


def test_links_become_absolute_with_an_address() -> None:
    scope: dict[str, object] = {}
    exec((ROOT / "hatch_build.py").read_text(), scope)  # noqa: S102  # not a package
    absolute = scope["absolute"]
    assert callable(absolute)
    text = "![drawn](docs/a.svg)\n\nsee [it](docs/b.md), [that](https://x.org)\n"
    base = "https://host/us/cliquegraph/blob/v1"
    assert absolute(text, base) == (
        f"![drawn]({base}/docs/a.svg)\n\nsee [it]({base}/docs/b.md), [that](https://x.org)\n"
    )
    assert absolute(text, None) == "see it, [that](https://x.org)\n"


def test_a_wheel_from_the_sdist_is_the_same_without_caches(
    wheel: Path, unpacked: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(unpacked, tree)
    (tree / ".gitignore").unlink(missing_ok=True)
    for cache in CACHES:
        (tree / "cliquegraph" / cache).mkdir()
        (tree / "cliquegraph" / cache / "left.json").write_text("{}")
    assert names(build("wheel", tmp_path / "again", tree)) == names(wheel)


def test_the_sdist_has_what_is_committed_and_its_tests_read(unpacked: Path) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    for name in listed["targets"]["sdist"]["include"]:
        assert (unpacked / name.lstrip("/")).exists(), name
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run([git, "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    committed = {line for line in done.stdout.splitlines() if not line.startswith(".")}
    kept = {name for name in committed if (ROOT / name).exists()}
    assert not {name for name in kept if not (unpacked / name).exists()}


def test_the_tests_of_the_sdist_run(unpacked: Path) -> None:
    path = os.pathsep.join(map(str, (unpacked, unpacked / "backends")))
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    words += ["tests/test_files.py", "tests/test_lock.py", "tests/spec/test_load.py"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- the compiler alone --------------------------------------------------------------------


def test_the_compiler_needs_no_framework(bare: Path, tmp_path: Path) -> None:
    rows = json.loads(cliquegraph(bare, tmp_path, "specs", "--json"))
    assert len(rows) == len(list((ROOT / "specs").glob("*.yaml")))
    cliquegraph(bare, tmp_path, "compile", "cliquenet_s3", "--backend", "torch,flax")
    for backend in ("torch", "flax"):
        written = (tmp_path / "generated" / backend / "cliquenet_s3.py").read_text()
        committed = (ROOT / "generated" / backend / "cliquenet_s3.py").read_text()
        assert written.partition('"""\n\n')[2].partition('"""')[2] in committed
    cliquegraph(bare, tmp_path, "init", "mine.yaml", "--from", "fashion")
    cliquegraph(bare, tmp_path, "check", "mine.yaml")
    cliquegraph(bare, tmp_path, "render", "mine.yaml", "-o", "loop.json")
    cliquegraph(bare, tmp_path, "render", "mine.yaml", "--view", "network", "-o", "network.dot")
    cliquegraph(bare, tmp_path, "train", "mine.yaml", "--plot", "rate.html", code=2)
    assert "cliquegraph[" not in cliquegraph(bare, tmp_path, "--help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("render quickstart -o a.svg", "pictures need pygraphviz: pip install pygraphviz"),
        ("train quickstart --plot a.svg", "pictures need matplotlib: pip install matplotlib"),
        ("train quickstart --data digits", "digits need scikit-learn: pip install scikit-learn"),
        ("train fashion --data synthetic", "training in PyTorch needs torch, pytorch-lightning: "),
        ("verify quickstart", "no backend can run: pip install jax flax optax (flax), or pip "),
        ("check specs/quickstart.yaml", "quickstart is shipped with cliquegraph: name it without"),
    ],
)
def test_what_is_missing_is_named(bare: Path, tmp_path: Path, words: str, message: str) -> None:
    printed = cliquegraph(bare, tmp_path, *words.split(), code=2)
    assert message in printed and "cliquegraph[" not in printed


# ---- with a framework ----------------------------------------------------------------------

WRITE = """
import cliquegraph
spec = cliquegraph.load("quickstart")
graph = cliquegraph.lower(cliquegraph.unroll(spec))
cliquegraph.write_weights(spec, cliquegraph.sample_tensors(graph), "w.safetensors")
"""


@pytest.mark.parametrize(
    ("backend", "package", "trainer"),
    [("torch", "torch", "pytorch-lightning"), ("flax", "flax", None)],
)
def test_evaluate_and_predict_need_no_trainer(
    wheel: Path, tmp_path: Path, backend: str, package: str, trainer: str | None
) -> None:
    pytest.importorskip(package)
    from PIL import Image

    python = environment(tmp_path / "venv", wheel, backend, "data")
    ran(python, tmp_path, "-c", WRITE)
    Image.new("L", (8, 8), 100).save(tmp_path / "digit.png")
    options = ("--weights", "w.safetensors", "--recipe", "svhn", "--json")
    words = ("evaluate", "quickstart", "--data", "digits")
    assert 0 <= json.loads(cliquegraph(python, tmp_path, *words, *options))["top1"] <= 1
    printed = cliquegraph(python, tmp_path, "predict", "quickstart", "digit.png", *options)
    assert json.loads(printed)["image"] == "digit.png"
    if trainer:  # Flax itself requires Optax and Orbax
        words = ("train", "quickstart", "--data", "digits", "--epochs", "1")
        message = f"training in PyTorch needs {trainer}: pip install {trainer}"
        assert message in cliquegraph(python, tmp_path, *words, code=2)
    else:
        words = ("train", "quickstart", "--data", "digits", "--epochs", "1", "--subset", "64")
        assert "wrote runs/quickstart-flax" in cliquegraph(python, tmp_path, *words)
