"""Logs: rows that are whole, rows that a resumed run drops."""

from __future__ import annotations

from pathlib import Path

import pytest

from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.training.logs import Table, read_table


def test_rows_are_added_and_dropped(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv", ("step", "loss"))
    table.keep_below(0)
    for step in range(4):
        table.append({"step": step, "loss": step / 3})
    table.keep_below(2)
    table.append({"step": 2, "loss": 9.0})
    rows = [(row["step"], float(row["loss"])) for row in read_table(tmp_path / "t.csv")]
    assert rows == [("0", 0.0), ("1", 1 / 3), ("2", 9.0)]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text("step,loss\n1,0.50\n2,0.75\n"[:-cut])
    assert [row["step"] for row in read_table(path)] == ["1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,loss\n1e400,1\n", "was not written by a run: invalid literal"),
        (f"step,loss\n1,{'x' * 200_000}\n", "was not written by a run: field larger"),
        ("loss\n1\n", "was not written by a run: 'step'"),
    ],
    ids=["no whole number", "a large field", "another table"],
)
def test_a_table_of_something_else_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        Table(tmp_path / "x.csv", ("step", "loss")).keep_below(5)


def test_a_file_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    assert read_table(tmp_path / "none.csv") == []
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"can't read .*bytes.csv"):
        read_table(tmp_path / "bytes.csv")
    with pytest.raises(TrainingError, match="can't write"):
        Table(tmp_path, ("step",)).append({"step": 1})
