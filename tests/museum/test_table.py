"""docs/museum.md lists every exhibit, in the words of the tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.museum import (
    test_by_hand,
    test_counting,
    test_loops,
    test_model,
    test_versions,
    test_weight_table,
)
from tests.museum.exhibits import Exhibit, exhibits

PAGE = Path(__file__).parents[2] / "docs" / "museum.md"
FILES = (test_versions, test_weight_table, test_model, test_counting, test_loops, test_by_hand)


def row(each: Exhibit, file: str) -> str:
    message = "<br>".join(f"`{line.strip()}`" for line in each.message.splitlines())
    link = f"[{each.test.removeprefix('test_')}](../tests/museum/{file}.py)"
    return f"| {each.defect} | {each.seen} | {each.caught_by} | {message} | {link} |"


def rows() -> list[str]:
    return [
        row(each, file.__name__.rpartition(".")[2]) for file in FILES for each in exhibits(file)
    ]


def test_the_table_is_what_the_tests_show() -> None:
    found = re.findall(r"^\| .* \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found[1:] == rows(), "\n".join(rows())


def test_every_file_is_listed() -> None:
    files = {file.__name__.rpartition(".")[2] for file in FILES}
    here = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert here == files | {"test_table"}
