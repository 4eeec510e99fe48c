"""Some of the kept proofs are repeated, others with each commit."""

from __future__ import annotations

import subprocess
from shutil import which

import pytest

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.certificate import file_entry, spec_digest
from cliquegraph.proof.compare import EVALUATION_GRADIENTS
from cliquegraph.proof.prove import WANTED, Prover
from tests.proof.table import Target, files_of, lacks_gradients, read_table, with_file

_QUICK = 20.0  # CPU seconds: what a test may take
_TABLE = read_table()


def _commits() -> int:
    try:
        found = subprocess.run(
            [which("git") or "git", "rev-list", "--count", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return 0  # a source distribution
    return int(found.stdout)


def _chosen() -> list[str]:
    quick = [key for key, each in _TABLE.items() if each["cpu_seconds"] < _QUICK]
    return [quick[(3 * _commits() + i) % len(quick)] for i in range(3)]


def test_what_is_kept_is_sure() -> None:
    assert _TABLE
    for entry in _TABLE.values():
        assert entry["bound"] < WANTED
        assert entry["equal"]["logits, evaluation"]
        assert entry["option"] == "--inference" or entry["equal"]["gradients"]


def test_files_of_one_trace_share_an_entry() -> None:
    entry = {"spec": "s.yaml", "backend": "torch", "option": "-O0", "file_sha256": "old"}
    first, second = (Target("s.yaml", "torch", option) for option in ("-O0", "-O1"))
    entries = with_file({}, "trace", entry, first, "source")
    entries = with_file(entries, "trace", entries["trace"], second, "source")
    assert files_of(entries["trace"]).keys() == {"-O0", "-O1"}
    entries = with_file(entries, "other", entry, first, "another source")
    assert files_of(entries["trace"]).keys() == {"-O1"}
    assert entries["trace"]["option"] == "-O1"
    assert files_of(entries["other"]).keys() == {"-O0"}


def test_entries_are_of_their_network_and_trace() -> None:
    for key, entry in _TABLE.items():
        assert key == f"{entry['network']} {entry['trace_sha256']}"


@pytest.mark.parametrize("key", _chosen())
def test_kept_proofs_can_be_repeated(key: str) -> None:
    entry = _TABLE[key]
    network = cliquegraph.load(entry["spec"])
    target = Target(entry["spec"], entry["backend"], entry["option"])
    found = Prover(Compilation(network, 0)).prove(
        target.compilation(network), find_backend(target.backend)
    )
    assert found.ok, found.difference
    again = file_entry(found)
    if network_changed := spec_digest(network) != entry["spec_sha256"]:
        pytest.fail(f"{entry['spec']} has changed since: make proofs ({network_changed})")
    if lacks_gradients(entry):  # which count as arguments of opaque functions, too
        del again["equal"][EVALUATION_GRADIENTS]
        for point, old in zip(again["points"], entry["points"], strict=True):
            point["queries"] = old["queries"]
    assert {key: again[key] for key in ("images", "equal", "points")} == {
        key: entry[key] for key in ("images", "equal", "points")
    }
