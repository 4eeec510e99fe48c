"""Checkpoints: whole or not there, verified, pruned; a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cliquegraph.diagnostics.errors import TrainingError
from cliquegraph.training.checkpoints import Checkpoints


def written(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.write(step, {"step": step}, lambda place, step=step: save(place, step))
    return checkpoints


def save(place: Path, step: int) -> None:
    (place / "inner").mkdir()
    (place / "inner" / "state").write_bytes(bytes([step]) * 1000)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    newest, faults = checkpoints.newest()
    assert newest is not None and newest.step == 3 and newest.facts == {"step": 3} and not faults
    assert (newest.folder / "inner" / "state").read_bytes() == bytes([3]) * 1000


def test_there_may_be_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").newest() == (None, ())


@pytest.mark.parametrize("name", ["inner/state", "facts.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_what_is_damaged_is_named_and_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    checkpoints = written(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if damage == "cut" else b"x" + content[1:])
    newest, faults = checkpoints.newest()
    assert newest is not None and newest.step == 1
    assert len(faults) == 1 and "step-00000002 is damaged: " in faults[0] and name in faults[0]
    written(tmp_path, 2)  # in the place of the damaged one
    assert checkpoints.newest()[1] == ()


def test_a_fault_leaves_the_older_ones(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 1)

    def broken(place: Path) -> None:
        save(place, 2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        checkpoints.write(2, {}, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    checkpoints = written(tmp_path, 1)
    (tmp_path / "step-00000002.tmp" / "inner").mkdir(parents=True)
    newest, faults = checkpoints.newest()
    assert newest is not None and newest.step == 1 and not faults
    checkpoints.clear_partial()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_rank_that_does_not_write_takes_part(tmp_path: Path) -> None:
    seen: list[Path] = []
    Checkpoints(tmp_path).write(1, {}, seen.append, writer=False)
    assert seen == [tmp_path / "step-00000001.tmp"]
    assert not list(tmp_path.iterdir())


FULL = """
import sys
from pathlib import Path
from cliquegraph.diagnostics.errors import TrainingError
from cliquegraph.training.checkpoints import Checkpoints

def save(place):
    (place / "state").write_bytes(bytes(300_000))

checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.write(1, {}, save)
try:
    for step in range(2, 9):
        checkpoints.write(step, {}, save)
except TrainingError as error:
    print(error)
    print(sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=800k none {disk}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:  # noqa: S607
        pytest.skip("a small file system can't be mounted here")
    words = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" -c "$1" {disk}']
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [*words, sys.executable, FULL],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    # Two are kept, and there is no room for a third beside them.
    message, left = done.stdout.splitlines()
    assert message == (
        f"can't write the checkpoint {disk}/step-00000003: No space left on device; "
        "--resume continues from step-00000002"
    )
    assert left == "['step-00000001', 'step-00000002']"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(TrainingError, match=r"can't write the checkpoint .*Not a directory"):
        written(tmp_path / "taken", 1)
