"""Shipped specs: found by name, listed, copied."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import cliquegraph
from cliquegraph import cli
from cliquegraph.cli.completion import (
    complete_backends,
    complete_data,
    complete_shipped,
    complete_spec,
)
from cliquegraph.compiler import Compilation
from cliquegraph.spec.shipped import SCHEMA, shipped
from tests.command import Run

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
QUICKSTART = (SPECS / "quickstart.yaml").read_text()


@pytest.fixture
def elsewhere(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which commands run; ``run`` itself starts in the project's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_spec_of_the_folder_is_shipped_under_the_name_of_its_network() -> None:
    assert sorted(path.stem for path in SPECS.glob("*.yaml")) == list(shipped())
    for name in shipped():
        assert cliquegraph.load(name) == cliquegraph.load(SPECS / f"{name}.yaml")
        assert cliquegraph.load(name).name == name


def test_a_spec_is_found_by_name_from_any_folder(run: Run, elsewhere: Path) -> None:
    done = run("compile", "quickstart", "--out", "out", "--backend", "torch")
    assert done.code == 0, done.err
    source = (elsewhere / "out" / "torch" / "quickstart.py").read_text()
    assert "    spec:       quickstart\n" in source
    assert "cliquegraph compile quickstart --backend torch -O0" in source
    committed = (ROOT / "generated" / "torch" / "quickstart.py").read_text()
    code = source.partition('"""\n\n')[2]
    assert code and code in committed


@pytest.mark.parametrize("words", [("check",), ("summary",), ("steps",), ("ir",), ("render",)])
def test_every_command_finds_it(run: Run, elsewhere: Path, words: tuple[str, ...]) -> None:
    assert run(*words, "quickstart").code == 0


def test_two_are_compared_by_name(run: Run, elsewhere: Path) -> None:
    assert run("diff", "cliquenet_k36_t15_i_ii", "cliquenet_k36_t15_ii_ii").code == 1


def test_overrides_and_errors_point_into_the_shipped_file(run: Run, elsewhere: Path) -> None:
    assert (
        cliquegraph.load("quickstart", ["blocks.0.filters=6", "expect={}"]).blocks[0].filters == 6
    )
    with pytest.raises(cliquegraph.SpecError) as caught:
        cliquegraph.load("quickstart", ["blocks.0.layers=0", "expect={}"])
    assert str(caught.value).startswith("--set")
    network = cliquegraph.load("quickstart")
    assert str(network.locate("blocks", 0)).startswith("quickstart.yaml:10:")


def test_an_existing_path_wins(run: Run, elsewhere: Path) -> None:
    (elsewhere / "quickstart").write_text(QUICKSTART.replace("name: quickstart", "name: other"))
    assert cliquegraph.load("quickstart").name == "other"
    (elsewhere / "resnet18").mkdir()
    assert "this is a directory" in run("check", "resnet18").err
    (elsewhere / "cliquenet_s3").symlink_to("nowhere")
    assert "no such file" in run("check", "cliquenet_s3").err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("specs/quickstart.yaml", "quickstart is shipped with cliquegraph: name it without folder"),
        ("quickstart.yml", "quickstart is shipped with cliquegraph: name it without folder"),
        ("quikstart", "did you mean the shipped spec 'quickstart'?"),
        ("mine.yaml", None),
        ("specs/mine", None),
        ("zzzzzz", None),
    ],
)
def test_a_missing_file_names_the_shipped_spec(
    run: Run, elsewhere: Path, name: str, hint: str | None
) -> None:
    done = run("check", name)
    assert done.code == 2
    assert f"{name}: error[unreadable-file]: no such file" in done.err
    assert (hint or "no such file\n") in done.err
    assert ("help:" in done.err) == (hint is not None)


def test_the_list_has_the_figures_of_every_spec(run: Run, elsewhere: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run("specs", "--json").out)}
    assert list(rows) == list(shipped())
    network = cliquegraph.load("cliquenet_s3")
    total = Compilation(network).cost.total
    assert rows["cliquenet_s3"] == {
        "name": "cliquenet_s3",
        "kinds": ["clique"] * 4,
        "parameters": total.parameters,
        "flops": total.flops,
        "input": [3, 224, 224],
        "classes": 1000,
        "description": "CliqueNet-S3 on ImageNet, Tables 3 and 5 of the paper: with attentional "
        "transition",
        "source": "https://arxiv.org/abs/1802.10419",
        "file": str(SPECS / "cliquenet_s3.yaml"),
    }
    for row in rows.values():
        assert row["description"] and "http" not in row["description"]
    table = run("specs").out
    assert all(name in table for name in rows)
    assert "4 clique" in table and "14,383,024" in table and "3×224×224" in table


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    from cliquegraph.cli.tables.shipped import shipped_json, shipped_table

    rows = [shipped_json(shipped()["quickstart"])]
    widths = {width: len(shipped_table(rows, width).columns) for width in (80, 120, 200)}
    assert widths == {80: 5, 120: 6, 200: 7}


def test_init_copies_a_spec_with_its_comments_under_the_name_of_the_file(
    run: Run, elsewhere: Path
) -> None:
    done = run("init", "sub/my-net.yaml", "--from", "quickstart")
    assert done.code == 0, done.err
    old, new = QUICKSTART.splitlines(), (elsewhere / "sub" / "my-net.yaml").read_text().splitlines()
    changed = {(a, b) for a, b in zip(old, new, strict=True) if a != b}
    assert changed == {
        (
            "name: quickstart                                # the generated file is quickstart.py",
            "name: my_net                                    # the generated file is my_net.py",
        ),
        (
            "class_name: Quickstart                          # the class in it",
            "class_name: MyNet                               # the class in it",
        ),
    }
    assert (elsewhere / "sub" / SCHEMA).read_text() == (SPECS / SCHEMA).read_text()
    assert run("check", "sub/my-net.yaml").code == 0


@pytest.mark.parametrize("name", list(shipped()))
def test_every_spec_can_be_a_start(run: Run, elsewhere: Path, name: str) -> None:
    assert run("init", "mine.yaml", "--from", name).code == 0
    mine, original = cliquegraph.load("mine.yaml"), cliquegraph.load(name)
    assert (mine.name, mine.python_class) == ("mine", "Mine")
    same = {"name": "x", "class_name": "X"}
    assert mine.model_copy(update=same) == original.model_copy(update=same)


def test_init_overwrites_nothing_unless_forced(run: Run, elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("precious")
    (elsewhere / SCHEMA).write_text("{}")
    done = run("init", "mine.yaml")
    assert done.code == 2 and "mine.yaml exists: --force overwrites it" in done.err
    assert (elsewhere / "mine.yaml").read_text() == "precious"
    assert run("init", "mine.yaml", "--force").code == 0
    assert cliquegraph.load("mine.yaml").name == "mine"
    assert (elsewhere / SCHEMA).read_text() == "{}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mine.yaml", "--from", "quikstart"), "did you mean 'quickstart'? `cliquegraph specs`"),
        (("mine.txt",), "is a .yaml file, not 'mine.txt'"),
        (("18.yaml",), "'18' can't name a network"),
    ],
)
def test_init_refuses(run: Run, elsewhere: Path, words: tuple[str, ...], message: str) -> None:
    done = run("init", *words)
    assert done.code == 2 and message in done.err
    assert not list(elsewhere.iterdir())


def test_all_elsewhere_names_the_way_out(run: Run, elsewhere: Path) -> None:
    assert "name shipped specs" in run("compile", "--all").err


def test_specs_are_completed_by_name_and_by_path(elsewhere: Path) -> None:
    (elsewhere / "quick.yaml").touch()
    (elsewhere / "quick.py").touch()
    (elsewhere / "quill").mkdir()
    (elsewhere / "quill" / ".hidden.yaml").touch()
    (elsewhere / "quill" / "a.json").touch()
    assert complete_spec("qui") == ["quickstart", "quick.yaml", "quill/"]
    assert complete_spec("quill/") == ["quill/a.json"]
    assert complete_spec("nowhere/") == []
    assert complete_shipped("cliquenet_s3") == ["cliquenet_s3", "cliquenet_s3_star"]


def test_data_sets_and_backends_are_completed(elsewhere: Path) -> None:
    assert complete_data("f") == ["fashion-mnist", "folder:"]
    (elsewhere / "images").mkdir()
    assert complete_data("folder:im") == ["folder:images/"]
    assert complete_backends("torch,") == ["torch,flax"]


def completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> str:
    """What the shell offers for the last word."""
    words = typed.split(" ")
    monkeypatch.setenv("_CLIQUEGRAPH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setattr("sys.argv", ["cliquegraph"])
    with pytest.raises(SystemExit):
        cli.app(prog_name="cliquegraph")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cliquegraph compile cliquenet_k150", "cliquenet_k150_t30_abc"),
        ("cliquegraph diff quickstart cliquenet_k150", "cliquenet_k150_t30_abc"),
        ("cliquegraph init a.yaml --from fash", "fashion"),
        ("cliquegraph train quickstart --data dig", "digits"),
        ("cliquegraph train quickstart --precision bf", "bfloat16"),
        ("cliquegraph evaluate quickstart --part va", "validation"),
        ("cliquegraph render quickstart --view st", "steps"),
        ("cliquegraph render quickstart --format d", "dot"),
        ("cliquegraph predict quickstart --recipe im", "imagenet"),
    ],
)
def test_the_shell_completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, offered: str
) -> None:
    assert completed(monkeypatch, capsys, typed).strip() == offered
    assert os.environ["_CLIQUEGRAPH_COMPLETE"]
