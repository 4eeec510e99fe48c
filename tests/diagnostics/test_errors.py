"""Codes of errors, and what editors read of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import CliqueGraphError, SpecError
from tests.command import Run

ROOT = Path(__file__).parents[2]
FAULTY = "tests/invalid/several_errors.yaml"


def test_the_page_is_what_the_command_prints(run: Run) -> None:
    assert run("errors").out == (ROOT / "docs" / "errors.md").read_text()


def test_codes_are_words_and_none_is_twice() -> None:
    codes = [str(code) for code in Code]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert len({code.meaning for code in Code}) == len(codes)


def test_every_class_of_errors_has_a_code_of_its_own() -> None:
    classes = [each for each in CliqueGraphError.__subclasses__() if each is not SpecError]
    assert len({each._code for each in classes}) == len(classes) == 6


@pytest.mark.parametrize(
    "words", [("check",), ("compile",), ("summary",), ("verify",), ("steps",), ("diff", FAULTY)]
)
def test_with_json_the_faults_are_an_object(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words, FAULTY, "--json")
    assert (ran.code, ran.err) == (2, "")
    found = json.loads(ran.out)["diagnostics"]
    assert [(each["line"], each["column"], each["code"]) for each in found] == [
        (2, 7, "wrong-value"),
        (3, 19, "wrong-value"),
        (4, 8, "unknown-key"),
        (6, 39, "impossible-schedule"),
        (9, 13, "missing-key"),
    ]
    assert {each["file"] for each in found} == {FAULTY}
    assert found[2]["hint"] == "did you mean 'filters'?"
    assert found[2]["message"] == "stem: unknown key 'filter'"


def test_what_has_no_place_is_null(run: Run) -> None:
    (found,) = json.loads(run("check", "specs/none.yaml", "--json").out)["diagnostics"]
    assert (found["file"], found["line"], found["column"]) == ("specs/none.yaml", None, None)
    assert found["code"] == "unreadable-file"
    words = ("verify", "specs/quickstart.yaml", "--backends", "none", "--json")
    (found,) = json.loads(run(*words).out)["diagnostics"]
    assert (found["file"], found["code"]) == (None, "backend")


def test_a_figure_that_fails_keeps_exit_code_1(run: Run) -> None:
    ran = run("compile", "tests/invalid/expect_fails.yaml", "--json")
    (found,) = json.loads(ran.out)["diagnostics"]
    assert (ran.code, found["code"], found["line"]) == (1, "expect", 10)


def test_compile_json_lists_the_files(run: Run, tmp_path: Path) -> None:
    words = ("compile", "specs/quickstart.yaml", "--out", str(tmp_path), "--json")
    for check, changed, code in (("--check", True, 1), (None, True, 0), (None, False, 0)):
        ran = run(*words, *([check] if check else []))
        assert ran.code == code
        assert json.loads(ran.out)["files"] == [
            {
                "spec": "specs/quickstart.yaml",
                "file": str(tmp_path / backend / "quickstart.py"),
                "changed": changed,
            }
            for backend in ("flax", "torch")
        ]


def test_faults_of_the_text_and_of_the_values_are_shown_together(run: Run, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "cliquegraph: 1\n"
        "name: !!str example\n"
        "input: {channels: 3, height: &h 32, width: *h}\n"
        "stem: {filters: .nan, filters: 1, kernel: 4}\n"
        "blocks: [{layers: four, filters: 1}]\n"
        "classifier: {classes: 10}\n"
    )
    found = json.loads(run("check", str(spec), "--json").out)["diagnostics"]
    assert [(each["line"], each["column"], each["code"]) for each in found] == [
        (2, 7, "tag"),
        (3, 30, "anchor"),
        (3, 44, "anchor"),
        (4, 17, "wrong-value"),
        (4, 23, "duplicate-key"),
        (4, 43, "wrong-value"),
        (5, 19, "wrong-value"),
    ]
