"""``cliquegraph prove``: what it prints, writes and repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cliquegraph
from tests.command import Run

QUICKSTART = "specs/quickstart.yaml"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from cliquegraph import cli

    path = tmp_path_factory.mktemp("proof") / "quickstart.json"
    words = ["prove", QUICKSTART, "--backend", "torch", "-O", "1", "-o", str(path)]
    ran = CliRunner().invoke(cli.app, words)
    assert ran.exit_code == 0, ran.output
    return path


def test_a_certificate_says_what_was_proved(certificate: Path) -> None:
    kept = json.loads(certificate.read_text())
    assert kept["ok"]
    assert kept["spec"]["file"] == QUICKSTART
    (file,) = kept["files"]
    assert (file["backend"], file["option"], file["images"]) == ("torch", "-O1", [4, 4])
    assert file["equal"]["gradients"] == 72_994
    assert file["bound"] < 2**-60
    assert len(file["points"][0]["primes"]) == 6
    assert {"python", "numpy", "torch"} <= kept["versions"].keys()


def test_a_certificate_can_be_repeated(certificate: Path, run: Run) -> None:
    ran = run("prove", "--recheck", str(certificate))
    assert (ran.code, "everything is as" in ran.out) == (0, True), ran


def test_a_changed_certificate_is_noticed(certificate: Path, run: Run, tmp_path: Path) -> None:
    kept = json.loads(certificate.read_text())
    kept["files"][0]["equal"]["gradients"] += 1
    kept["files"][0]["trace_sha256"] = "0" * 64
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(kept))
    ran = run("prove", "--recheck", str(changed), "--json")
    assert ran.code == 1
    first, second = json.loads(ran.out)["differences"]
    assert first == "torch -O1: the traced program is another one"
    assert second.startswith("torch -O1: equal ")


def test_a_file_that_was_edited_is_refuted(run: Run, tmp_path: Path) -> None:
    spec = cliquegraph.load(QUICKSTART)
    source = cliquegraph.compile(spec, "torch").replace("w=self.w2[:, k0:]", "w=self.w3[:, k0:]", 1)
    file = tmp_path / "edited.py"
    file.write_text(source)
    ran = run("prove", QUICKSTART, "--backend", "torch", "--file", str(file))
    assert ran.code == 1
    assert "block1, stage 2 layer 2: X2@2, of {X1@2, X3@1, X4@1}, is not as declared" in ran.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a spec, or a certificate with --recheck"),
        ([QUICKSTART, "-O", "7"], "-O7: there are -O0, -O1, -O2 and -O all"),
        ([QUICKSTART, "--file", "x.py"], "--file is of one backend and one level: name them"),
        ([QUICKSTART, "--backend", "tensorflow"], "tensorflow"),
        (["--recheck", "nothing.json"], "nothing.json"),
        (["--recheck", "README.md"], "README.md is not JSON"),
        (["--recheck", "generated/proofs.json"], "is not a certificate"),
        ([QUICKSTART, "--recheck", "x.json"], "--recheck repeats a certificate: remove specs and"),
    ],
)
def test_misuse(words: list[str], message: str, run: Run) -> None:
    ran = run("prove", *words)
    assert ran.code == 2, ran
    assert message in ran.err, ran


@pytest.mark.parametrize("as_json", [False, True])
def test_a_command_that_runs_out_of_memory_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def exhaust(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cliquegraph.cli.prove._prove", exhaust)
    ran = run("prove", QUICKSTART, *["--json"] * as_json)
    assert ran.code == 2, ran
    assert "there is not enough memory" in (ran.out if as_json else ran.err), ran
