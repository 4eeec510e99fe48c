"""What a session says of a step."""

from __future__ import annotations

from pathlib import Path

from cliquegraph.training.run import Run
from cliquegraph.training.session import Session
from cliquegraph.training.train import Silent
from tests.trainings import job


def test_dropout_draws_anew_in_each_seed_step_rank_and_part(tmp_path: Path) -> None:
    sessions = [Session(job("torch", seed=s), "", Run(tmp_path), Silent()) for s in (0, 0, 1)]
    one, same, other = sessions
    assert one.noise(1, 2) == same.noise(1, 2)
    seen = [one.noise(0, 0), one.noise(1, 0), one.noise(0, 1), other.noise(0, 0)]
    one.step = 1
    seen.append(one.noise(0, 0))
    one.epoch = 1
    seen.append(one.noise(0, 0))
    assert len(set(seen)) == len(seen)
