"""Every faulty file has its message beside it, however far it comes."""

import re
from pathlib import Path

import pytest

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import CliqueGraphError, ExpectError, SpecError
from cliquegraph.spec.load import load

OF_CLASSES = {
    each._code for each in CliqueGraphError.__subclasses__() if not issubclass(each, SpecError)
}
FOLDER = Path(__file__).parents[1] / "invalid"
FILES = sorted(p for p in FOLDER.iterdir() if p.suffix in {".yaml", ".json"})

LATER = {
    "attention_of_one_channel.yaml": SpecError,
    "compressed_to_nothing.yaml": SpecError,
    "expect_fails.yaml": ExpectError,
    "expect_fails_twice.yaml": ExpectError,
    "pooled_to_nothing.yaml": SpecError,
    "pooled_to_nothing_by_default.yaml": SpecError,
    "shortcut_pads_fewer_maps.yaml": SpecError,
    "shortcut_pools_odd_maps.yaml": SpecError,
    "stages_of_a_block_of_one.yaml": SpecError,
    "stem_pool_too_large.yaml": SpecError,
}
"""What only a compile finds; every other file is refused by ``load``."""


def compile_it(name: str) -> None:
    """Go as far as a compile goes: load, unroll, lower, passes, expect."""
    Compilation(load(name)).require_expected()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_message(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SpecError) as caught:
        compile_it(file.name)
    assert f"{caught.value}\n" == file.with_suffix(".txt").read_text(encoding="utf-8")
    assert type(caught.value) is LATER.get(file.name, SpecError)
    places = [(d.location.line, d.location.column) for d in caught.value.diagnostics if d.location]
    assert places == sorted(places)


@pytest.mark.parametrize("name", LATER)
def test_what_a_compile_finds_is_a_spec_otherwise(name: str) -> None:
    load(FOLDER / name)


def test_each_file_has_a_message_and_each_message_a_file() -> None:
    assert len(FILES) > 50
    messages = {p.stem for p in FOLDER.glob("*.txt")}
    assert messages == {p.stem for p in FILES}
    assert {p.name for p in FOLDER.iterdir()} == {p.name for p in FILES} | {
        f"{stem}.txt" for stem in messages
    }


def test_each_code_of_a_spec_has_a_file() -> None:
    shown = {
        code
        for file in FOLDER.glob("*.txt")
        for code in re.findall(r"error\[([a-z-]+)\]: ", file.read_text(encoding="utf-8"))
    }
    elsewhere = {Code.UNREADABLE, Code.OVERRIDE, Code.MORE, *OF_CLASSES}
    assert shown == {str(code) for code in set(Code) - elsewhere}


def test_all_faults_of_a_file_are_reported_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SpecError) as caught:
        load("several_errors.yaml")
    lines = [d.location.line for d in caught.value.diagnostics if d.location]
    assert lines == [2, 3, 4, 6, 9]


def test_no_message_shows_what_is_inside_a_library() -> None:
    internals = (
        *("union", "tagged", "pydantic", "literal", "constrained", "Input should"),
        *("<block", "<scalar", "<stream", "mapping", "scalar", "node"),
    )
    for file in FOLDER.glob("*.txt"):
        said = [line for line in file.read_text(encoding="utf-8").splitlines() if "error[" in line]
        for internal in internals:
            assert not any(internal in line for line in said), file.name
