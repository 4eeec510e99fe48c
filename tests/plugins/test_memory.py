"""Which backend predicts training memory, and what is said where none does."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins import backends, memory
from cliquegraph.plugins.memory import memory_model
from tests.command import Run

TORCH = EntryPoint("torch", "cliquegraph_torch:BACKEND", backends.GROUP)
FLAX = EntryPoint("flax", "cliquegraph_flax:BACKEND", backends.GROUP)
BROKEN = EntryPoint("broken", "cliquegraph_that_is_not_there:BACKEND", backends.GROUP)


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    for module in (backends, memory):
        monkeypatch.setattr(module, "installed", lambda: {each.name: each for each in points})


def test_the_first_that_predicts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, BROKEN, FLAX, TORCH)
    assert memory_model() is backends.find_backend("torch")
    assert memory_model("torch") is memory_model()


def test_one_that_predicts_none_is_refused_by_name() -> None:
    with pytest.raises(BackendError, match=r"'flax' does not predict training memory; .*: torch"):
        memory_model("flax")


def test_summary_says_that_nobody_predicts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FLAX)
    ran = run("summary", "specs/quickstart.yaml", "--memory")
    assert ran.code == 2
    assert "no installed backend predicts training memory: flax" in ran.err
