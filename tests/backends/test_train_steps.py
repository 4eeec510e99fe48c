"""What a step in PyTorch waits for, in which memory format it runs, and what it leaves behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.plugins.engines import find_engine
from cliquegraph.training.job import Job
from cliquegraph.training.session import Session
from cliquegraph.training.train import Silent, train
from cliquegraph.weights.initial import initial_tensors
from cliquegraph_torch import train as torch_train
from tests.trainings import DROPOUT, Stopping, distance, job, measured, small_job

pytest.importorskip("pytorch_lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

# ---- synchronization --------------------------------------------------------------------------

WAITS = {
    torch.ops.aten._local_scalar_dense.default: "an element is read on the host",
    torch.ops.aten.lift_fresh.default: "a tensor is made of Python's numbers, and copied",
}


def is_deciding() -> bool:
    """Whether ``is_derivable`` of a generated file asks: it reads scales, on a CPU alone."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "is_derivable":
            return True
    return False


class NoWait(TorchDispatchMode):
    """Fails on what would wait for a GPU, between the start of a step and the next row."""

    watching = False
    steps = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        waits = self.watching and function in WAITS and not is_deciding()
        assert not waits, WAITS[function]
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

    no_wait.watching = False
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
        options = {"precision": "bfloat16", "log_every": 3, "any_level": True, "devices": 1}
        train(small_job("torch", **options), tmp_path)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---- memory format ----------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """Whether weights and images of each forward pass were channels_last."""
    found: list[tuple[bool, bool]] = []
    logits = torch_train._Training._logits

    def spy(trainee: Any, images: Tensor) -> Tensor:
        def note(module: Any, arguments: tuple[Tensor]) -> None:
            kernels = [each for each in module.parameters() if each.dim() == 4]
            weights = {
                each.is_contiguous(memory_format=torch.channels_last)
                for each in kernels
                if each[0, 0].numel() > 1  # 1×1 kernels are in both
            }
            assert len(weights) == 1
            layout = arguments[0].is_contiguous(memory_format=torch.channels_last)
            found.append((weights.pop(), layout))

        with trainee.model.register_forward_pre_hook(note):
            return logits(trainee, images)

    monkeypatch.setattr(torch_train._Training, "_logits", spy)
    return found


def color_job(*overrides: str, **options: Any) -> Job:
    """Images of one channel have no memory format."""
    chosen: dict[str, Any] = {"changes": {"epochs": 2, "batch_size": 16}, "log_every": 1, **options}
    overrides = ("input.channels=3", "blocks=[{layers: 2}, {layers: 2}]", *overrides)
    return job("torch", *overrides, data="synthetic:64", subset=32, **chosen)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_weights_and_images_are_in_the_format_of_the_job(
    tmp_path: Path, seen: list[tuple[bool, bool]], channels_last: bool, level: int
) -> None:
    train(color_job(level=level, channels_last=channels_last), tmp_path)
    assert set(seen) == {(channels_last, channels_last)}
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["channels_last"] is channels_last


def test_both_formats_train_alike(tmp_path: Path) -> None:
    for name, channels_last in (("nchw", False), ("last", True)):
        train(color_job(precision="float64", channels_last=channels_last), tmp_path / name)
    assert 0.0 < distance(tmp_path / "nchw", tmp_path / "last") < 1e-9


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_run_goes_on_in_its_format_to_the_bit(
    tmp_path: Path, seen: list[tuple[bool, bool]], channels_last: bool
) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    asked = color_job(DROPOUT, channels_last=channels_last)
    train(asked, whole)
    assert train(asked, again, display=Stopping(1)).interrupted
    facts = json.loads((again / "run.json").read_text())
    assert facts.pop("channels_last") is channels_last
    if not channels_last:  # as a run wrote it that knew of no format
        del facts["cudnn_benchmark"]
        (again / "run.json").write_text(json.dumps(facts))
    seen.clear()
    display = Stopping(0)
    train(color_job(DROPOUT, level=0, any_level=True), again, resume=True, display=display)
    assert display.said == [
        f"-O1{', channels_last' if channels_last else ''}, as in the resumed run"
    ]
    assert set(seen) == {(channels_last, channels_last)}
    assert distance(whole, again) == 0.0
    assert measured(whole) == measured(again)
    with pytest.raises(UsageError, match=f"channels_last was {channels_last}, is now"):
        train(color_job(DROPOUT, channels_last=not channels_last), again, resume=True)
    with pytest.raises(UsageError, match="level was 1, is now 2"):
        train(color_job(DROPOUT, level=2), again, resume=True)


# ---- cuDNN's benchmark ------------------------------------------------------------------------


class Looking(Silent):
    """Notes PyTorch's setting at each row."""

    def __init__(self) -> None:
        self.found: set[bool] = set()

    def step(self, session: Session) -> None:
        self.found.add(torch.backends.cudnn.benchmark)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("wanted", [True, False, None])
def test_the_setting_of_cudnn_is_that_of_the_job_while_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool, wanted: bool | None
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    display = Looking()
    train(small_job("torch", subset=32, cudnn_benchmark=wanted), tmp_path, display=display)
    assert display.found == {before if wanted is None else wanted}
    assert torch.backends.cudnn.benchmark is before
    assert json.loads((tmp_path / "run.json").read_text())["cudnn_benchmark"] is wanted


def test_it_is_set_back_after_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    changes = {"epochs": 1, "batch_size": 32, "learning_rate": 1e38}
    with pytest.raises(TrainingError):
        train(job("torch", changes=changes, log_every=1, cudnn_benchmark=True), tmp_path)
    assert torch.backends.cudnn.benchmark is False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_classifier_on_a_gpu_leaves_it_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    asked = small_job("torch")
    tensors = initial_tensors(asked.compilation.lowered, 0)
    classify = find_engine("torch").classifier(asked.compilation, tensors, "float32")
    classify(next(asked.data.evaluation("test", 32).epoch(0)).images)
    assert torch.backends.cudnn.benchmark is False
