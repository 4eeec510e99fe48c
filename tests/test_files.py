"""What is read and written where something else than a file lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.files import difference, read_text, write_bytes, write_files
from tests.command import Run

QUICKSTART = "specs/quickstart.yaml"
LOOP = "Too many levels of symbolic links"


def folder(path: Path) -> None:
    path.mkdir()


def itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "why"),
    [(folder, "it is a directory"), (os.mkfifo, "it is not a regular file")],
    ids=["folder", "pipe"],
)
def test_what_is_no_file_is_neither_read_nor_written(
    tmp_path: Path, make: object, why: str
) -> None:
    path = tmp_path / "there"
    assert callable(make)
    make(path)
    with pytest.raises(UsageError, match=f"can't read {path}: {why}"):
        read_text(path)
    with pytest.raises(UsageError, match=f"can't read {path}: {why}"):
        difference(path, "text")
    for write in (lambda: write_files({path: "text"}), lambda: write_bytes(path, [b"text"])):
        with pytest.raises(UsageError, match=f"can't write {path}: {why}"):
            write()
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_what_is_not_there_is_none_and_what_is_no_text_is_refused(tmp_path: Path) -> None:
    assert read_text(tmp_path / "none") is None
    (tmp_path / "latin").write_bytes(b"r\xe9seau")
    with pytest.raises(UsageError, match="can't decode byte 0xe9"):
        read_text(tmp_path / "latin")
    (tmp_path / "file").write_text("")
    assert difference(tmp_path / "file", "") == ""
    assert "file (missing)" not in difference(tmp_path / "file", "text\n")
    assert "none (missing)" in difference(tmp_path / "none", "text\n")


def test_a_link_to_itself_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "link"
    itself(path)
    for write in (lambda: write_files({path: "text"}), lambda: write_bytes(path, [b"text"])):
        with pytest.raises(UsageError, match=f"{path}: {LOOP}"):
            write()
    with pytest.raises(UsageError, match=f"can't read {path}: Too many levels"):
        read_text(path)


def test_every_command_that_writes_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    for name in ("torch/quickstart.py", "picture.svg", "schema.json", "weights.safetensors"):
        itself(tmp_path / name)
    compiled = ("compile", QUICKSTART, "--backend", "torch", "--out", str(tmp_path))
    image = str(tmp_path / "none.png")
    for words in (
        compiled,
        (*compiled, "--check"),
        ("render", QUICKSTART, "-o", str(tmp_path / "picture.svg")),
        ("schema", "-o", str(tmp_path / "schema.json")),
        ("predict", QUICKSTART, image, "--weights", str(tmp_path / "weights.safetensors")),
    ):
        ran = run(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert "Too many levels of symbolic links" in ran.err


def test_a_name_that_is_said_does_not_speak_to_the_terminal(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "\x1b[31mred\u202e\n"
    words = ("compile", QUICKSTART, "--backend", "torch", "--out", str(out))
    for more in (("--check",), (), ()):
        ran = run(*words, *more)
        assert "red\\u202e\\n" in ran.out
        assert not {"\x1b", "\u202e"} & set(ran.out)
    picture = str(tmp_path / "\u202e.svg")
    assert run("render", QUICKSTART, "-o", picture).out == f"wrote {tmp_path}/\\u202e.svg\n"


def test_a_spec_that_is_named_twice_is_said_to_be(run: Run) -> None:
    ran = run("compile", QUICKSTART, QUICKSTART, "--check")
    assert (ran.code, ran.err) == (2, f"error[usage]: {QUICKSTART} is named twice\n")
