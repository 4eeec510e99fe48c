"""What a job leaves open is the resumed run's, else the engine's choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cliquegraph.plugins.engines import Choice
from cliquegraph.training.job import Job
from cliquegraph.training.run import Run
from cliquegraph.training.settle import settle
from tests.training.test_run import WRITTEN
from tests.trainings import job

CHOICE = Choice(2, "on this abacus: 0.5 of -O0's step", channels_last=True, cudnn_benchmark=True)


class Abacus:
    """An engine that only chooses."""

    def __init__(self, choice: Choice = CHOICE) -> None:
        self._choice = choice

    def choose(self, job: Job) -> Choice:
        return self._choice


def settled(
    folder: Path | None = None, choice: Choice = CHOICE, **options: Any
) -> tuple[tuple[int, bool | None, bool | None], str | None]:
    engine: Any = Abacus(choice)
    found, line = settle(job("torch", **options), engine, Run(folder) if folder else None)
    # Nothing is left to choose: what is settled twice has no line.
    again, silence = settle(found, engine, None)
    assert (again, silence) == (found, None)
    assert not found.any_level
    return (found.compilation.level, found.channels_last, found.cudnn_benchmark), line


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run from before memory formats could be chosen."""
    (tmp_path / "run.json").write_text(json.dumps({**WRITTEN, "level": 1}))
    return tmp_path


def test_nothing_asked_for_is_the_engines_choice() -> None:
    line = "-O2, channels_last on this abacus: 0.5 of -O0's step; -O selects another level"
    assert settled(any_level=True) == ((2, True, True), line)


def test_what_is_asked_for_goes_first(old: Path) -> None:
    options = {"channels_last": True, "cudnn_benchmark": False}
    assert settled(None, level=0, **options) == ((0, True, False), None)
    assert settled(old, level=0, **options) == ((0, True, False), None)


def test_a_memory_format_alone_is_said_too() -> None:
    line = "channels_last on this abacus: 0.5 of -O0's step; --no-channels-last turns it off"
    assert settled(level=0) == ((0, True, True), line)
    nchw = replace(CHOICE, channels_last=False)
    assert settled(None, nchw, level=0) == ((0, False, True), None)


def test_an_old_run_goes_on_at_its_level_in_nchw(old: Path) -> None:
    assert settled(old, any_level=True) == ((1, False, True), "-O1, as in the resumed run")


def test_a_run_goes_on_as_it_began(tmp_path: Path) -> None:
    facts = {**WRITTEN, "level": 0, "channels_last": True, "cudnn_benchmark": False}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    line = "-O0, channels_last, as in the resumed run"
    assert settled(tmp_path, any_level=True) == ((0, True, False), line)


def test_no_run_is_there_to_go_on_with(tmp_path: Path) -> None:
    assert settled(tmp_path, any_level=True) == settled(any_level=True)


def test_a_level_that_alone_will_do_goes_before_that_of_a_run(old: Path) -> None:
    only = Choice(0, "for want of beads", channels_last=True, binding=True)
    assert settled(None, only, any_level=True) == (
        (0, True, None),
        "-O0, channels_last " + only.why,
    )
    assert settled(old, only, any_level=True) == ((0, False, None), "-O0 for want of beads")


def test_an_engine_of_one_memory_format_is_given_none(old: Path) -> None:
    one = Choice(2, "on this abacus")
    assert settled(old, one, any_level=True) == ((1, None, None), "-O1, as in the resumed run")
