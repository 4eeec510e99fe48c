"""What a step in PyTorch waits for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cliquegraph.training.train import train
from cliquegraph_torch import train as torch_train
from tests.trainings import job, small_job

pytest.importorskip("pytorch_lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

# ---- synchronisation --------------------------------------------------------------------------

WAITS = {
    torch.ops.aten._local_scalar_dense.default: "an element is read on the host",
    torch.ops.aten.lift_fresh.default: "a tensor is made of Python's numbers, and copied",
}


class NoWait(TorchDispatchMode):
    """Fails on what would wait for a GPU, between the start of a step and the next row."""

    watching = False
    steps = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        assert not (self.watching and function in WAITS), WAITS[function]
        return function(*arguments, **(options or {}))


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[NoWait]:
    """Watches from the first hook of a step on until the next row is due."""
    mode = NoWait()
    start, totals = torch_train._Training.on_train_batch_start, torch_train._Training.totals

    def watch(*arguments: Any) -> Any:
        mode.watching, mode.steps = True, mode.steps + 1
        return start(*arguments)

    def rest(trainee: Any) -> Any:
        mode.watching = False
        return totals(trainee)

    monkeypatch.setattr(torch_train._Training, "on_train_batch_start", watch)
    monkeypatch.setattr(torch_train._Training, "totals", rest)
    with mode:
        yield mode


@pytest.mark.parametrize("level", [0, 1, 2])
def test_between_two_rows_nothing_waits_for_the_device(
    tmp_path: Path, no_wait: NoWait, level: int
) -> None:
    options = {"precision": "float32", "log_every": 3, "accumulate": 2}
    train(small_job("torch", level=level, **options), tmp_path)
    assert no_wait.steps == 12


def test_what_waits_is_noticed(
    tmp_path: Path, no_wait: NoWait, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch_train._Training.training_step

    def counting(trainee: Any, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = step(trainee, batch, index)
        loss.new_tensor([len(batch[1])])  # as it once was
        return loss

    monkeypatch.setattr(torch_train._Training, "training_step", counting)
    with pytest.raises(AssertionError, match="a tensor is made of Python's numbers"):
        train(small_job("torch"), tmp_path / "copied")

    def reading(trainee: Any, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = step(trainee, batch, index)
        loss.item()
        return loss

    monkeypatch.setattr(torch_train._Training, "training_step", reading)
    with pytest.raises(AssertionError, match="an element is read on the host"):
        train(small_job("torch"), tmp_path / "read")


def test_images_are_pinned_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, ...]] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        pinned.append(tuple(tensor.shape))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    batches = job("torch").data.training(32)
    loader = torch_train._Loader(batches, parts=2)
    assert [images.shape[0] for images, _ in loader] == [16] * 8
    assert not pinned
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert len(list(torch_train._Loader(batches, parts=2))) == 8
    assert pinned == [(32, 1, 8, 8), (32,)] * 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_nothing_waits_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, totals = torch_train._Training.on_train_batch_start, torch_train._Training.totals

    def watch(*arguments: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        return start(*arguments)

    def rest(trainee: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        return totals(trainee)

    monkeypatch.setattr(torch_train._Training, "on_train_batch_start", watch)
    monkeypatch.setattr(torch_train._Training, "totals", rest)
    try:
        options = {"precision": "bfloat16", "log_every": 3, "devices": 1}
        train(small_job("torch", **options), tmp_path)
    finally:
        torch.cuda.set_sync_debug_mode("default")
