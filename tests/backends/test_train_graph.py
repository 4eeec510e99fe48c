"""Training by a CUDA graph, in an emulation on the CPU; on a GPU, against eager steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cliquegraph.diagnostics.errors import TrainingError, UsageError
from cliquegraph.training.train import train
from cliquegraph_torch import graphed
from cliquegraph_torch import train as torch_train
from cliquegraph_torch.graphed import WARMUP, GraphedStep, require_capturable
from tests.backends.test_train_steps import WAITS, is_deciding
from tests.trainings import DROPOUT, Stopping, distance, job, losses, measured, small_job

pytest.importorskip("pytorch_lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

# ---- an emulation -----------------------------------------------------------------------------


class Graph(TorchDispatchMode):
    """Emulates ``torch.cuda.CUDAGraph``: repeats the operators of a capture on their tensors.

    As there, nothing that Python decides, computes or rebinds happens again, and what reads a
    tensor on the host fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if is_deciding():
            return function(*arguments, **(options or {}))
        assert function not in WAITS, WAITS[function]
        results = function(*arguments, **(options or {}))
        self.calls.append((function, arguments, options or {}, tree_leaves(results)))
        return results

    @torch.no_grad()
    def replay(self) -> None:
        EVENTS.append("replay")
        for function, arguments, options, recorded in self.calls:
            again = tree_leaves(function(*arguments, **options))
            for old, new in zip(recorded, again, strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Stream:
    def wait_stream(self, other: Stream) -> None:
        EVENTS.append("wait")


EVENTS: list[str] = []
STATE: list[Any] = []
"""The ``_Training`` whose tensors a capture must leave as they were."""


@contextmanager
def capturing(graph: Graph, capture_error_mode: str) -> Iterator[None]:
    """Capture, and undo what the operators did: a capture on a GPU executes nothing."""
    EVENTS.append(f"capture {capture_error_mode}")
    tensors, random = tensors_of(STATE[-1]) if STATE else [], torch.get_rng_state()
    before = [each.detach().clone() for each in tensors]
    with graph:
        yield
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    torch.set_rng_state(random)


def tensors_of(trainee: Any) -> list[Tensor]:
    (optimizer,) = trainee.trainer.optimizers
    momentum = [state["momentum_buffer"] for state in optimizer.state.values()]
    return [*trainee.parameters(), *trainee.buffers(), *momentum, trainee._counted]


@contextmanager
def on_side(stream: Stream) -> Iterator[None]:
    EVENTS.append("side")
    yield
    EVENTS.append("back")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called, in order."""
    for name, substitute in (
        ("CUDAGraph", Graph),
        ("graph", capturing),
        ("Stream", Stream),
        ("stream", on_side),
        ("current_stream", Stream),
    ):
        monkeypatch.setattr(torch.cuda, name, substitute)
    start = torch_train._Training.on_fit_start
    monkeypatch.setattr(
        torch_train._Training, "on_fit_start", lambda self: (STATE.append(self), start(self))
    )
    monkeypatch.setattr(torch_train, "require_capturable", lambda job, ranks: None)
    EVENTS.clear()
    STATE.clear()
    return EVENTS


WARM = ["wait", "side", "back", "wait"] * WARMUP


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_graph_trains_as_eager_steps_do(tmp_path: Path, emulated: list[str], level: int) -> None:
    # The rate falls after the first and the second epoch; SMALL has dropout.
    options: dict[str, Any] = {"level": level, "epochs": 3, "log_every": 4}
    train(small_job("torch", cuda_graph=True, **options), tmp_path / "graph")
    assert emulated == [*WARM, "capture thread_local", *["replay"] * (18 - WARMUP)]
    train(small_job("torch", **options), tmp_path / "eager")
    # The fused update rounds otherwise, and its rate is float32.
    assert distance(tmp_path / "graph", tmp_path / "eager") < 1e-7
    assert losses(tmp_path / "graph") == pytest.approx(losses(tmp_path / "eager"), rel=1e-6)
    facts = json.loads((tmp_path / "graph" / "run.json").read_text())
    assert facts["cuda_graph"] is True


@pytest.mark.parametrize(
    "change",
    [
        "readout={blocks: last, stages: all}",
        "blocks=[{kind: residual, layers: 2, filters: 4, drop_path: {last: 0.5}}]",
        "blocks=[{kind: fractal, columns: 2, filters: 4, drop_path: {local: 0.2, global: 0.5}}]",
    ],
)
def test_random_paths_and_stages_are_replayed(
    tmp_path: Path, emulated: list[str], change: str
) -> None:
    overrides = ("blocks=[{layers: 2, filters: 4}]", "transition=none", "expect={}", change)
    for name, graph in (("graph", True), ("eager", False)):
        train(small_job("torch", overrides=overrides, cuda_graph=graph), tmp_path / name)
    assert emulated.count("replay") == 6 - WARMUP
    assert distance(tmp_path / "graph", tmp_path / "eager") < 1e-7


def test_frozen_parts_stay_and_momentum_may_be_zero(tmp_path: Path, emulated: list[str]) -> None:
    for name, graph in (("graph", True), ("eager", False)):
        asked = job(
            "torch",
            "blocks=[{layers: 2, filters: 4}]",
            level=0,
            precision="float64",
            changes={"epochs": 2, "batch_size": 32, "momentum": 0.0},
            freeze=("stem",),
            cuda_graph=graph,
        )
        train(asked, tmp_path / name)
    assert distance(tmp_path / "graph", tmp_path / "eager") < 1e-7


def test_bfloat16_is_captured_with_its_casts(tmp_path: Path, emulated: list[str]) -> None:
    for name, graph in (("graph", True), ("eager", False)):
        train(small_job("torch", precision="bfloat16", cuda_graph=graph), tmp_path / name)
    assert emulated.count("replay") == 6 - WARMUP
    assert distance(tmp_path / "graph", tmp_path / "eager") < 1e-4


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_run_goes_on_with_and_without_a_graph(
    tmp_path: Path, emulated: list[str], first: bool, second: bool
) -> None:
    def asked(graph: bool) -> Any:
        changes = {"epochs": 2, "batch_size": 16}
        options = {"precision": "float64", "log_every": 1, "cuda_graph": graph}
        return job("torch", DROPOUT, subset=128, changes=changes, **options)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(asked(first), whole)
    assert train(asked(first), parts, display=Stopping(5)).interrupted
    emulated.clear()
    train(asked(second), parts, resume=True)
    assert emulated.count("replay") == (10 - WARMUP) * second
    assert distance(whole, parts) < 1e-7
    assert [row["train_top1"] for row in measured(whole)] == [
        row["train_top1"] for row in measured(parts)
    ]


# ---- the class alone --------------------------------------------------------------------------


def test_a_batch_of_another_shape_takes_an_eager_step(emulated: list[str]) -> None:
    total, taken = torch.zeros(()), []

    def step(images: Tensor, labels: Tensor) -> None:
        taken.append(len(images))
        total.add_((images.sum(dim=1) * labels).sum())

    take = GraphedStep(step, torch.contiguous_format)
    images, labels = torch.ones(4, 2), torch.arange(4.0)
    for _ in range(WARMUP):
        take(images, labels)
    before = float(total)
    STATE.clear()
    take(images, labels)
    # One more in `total` than on a GPU: this capture executes the step.
    assert float(total) == before + 2 * 12
    take(images[:1], labels[3:])
    assert float(total) == before + 2 * 12 + 6
    take(2 * images, labels)
    assert float(total) == before + 2 * 12 + 6 + 24
    assert taken == [4] * WARMUP + [4, 1]
    assert emulated == [*WARM, "capture thread_local", "replay", "replay"]


def test_images_are_captured_in_the_memory_format(emulated: list[str]) -> None:
    seen: list[bool] = []

    def step(images: Tensor, labels: Tensor) -> None:
        seen.append(images.is_contiguous(memory_format=torch.channels_last))

    take = GraphedStep(step, torch.channels_last)
    for _ in range(WARMUP + 1):
        take(torch.ones(2, 3, 4, 4), torch.zeros(2))
    assert seen == [False] * WARMUP + [True]


def test_what_can_t_be_captured_is_an_error_that_names_the_way_out(emulated: list[str]) -> None:
    def step(images: Tensor, labels: Tensor) -> None:
        if graphs:
            raise RuntimeError("operation not permitted when stream is capturing")

    graphs = False
    take = GraphedStep(step, torch.contiguous_format)
    for _ in range(WARMUP):
        take(torch.ones(2), torch.ones(2))
    graphs = True
    with pytest.raises(TrainingError, match=r"not permitted.*; leave out --cuda-graph"):
        take(torch.ones(2), torch.ones(2))


# ---- refusals ---------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device")
def test_without_cuda_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--cuda-graph needs a CUDA device.*leave it out"):
        train(small_job("torch", cuda_graph=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_flax_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Flax's step is one compiled program already"):
        train(small_job("flax", devices=1, cuda_graph=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "ranks", "message"),
    [
        ({}, 2, "trains on one device, not 2: use --devices 1"),
        ({"precision": "float16"}, 1, "use --precision bfloat16"),
        ({"accumulate": 2}, 1, "leave out --accumulate 2, or --cuda-graph"),
    ],
)
def test_what_has_no_graph_is_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], ranks: int, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_capturable(small_job("torch", cuda_graph=True), 1)
    with pytest.raises(UsageError, match=message):
        graphed.require_capturable(small_job("torch", cuda_graph=True, **options), ranks)


# ---- on a GPU ---------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_on_a_gpu_a_graph_trains_as_eager_steps_do(tmp_path: Path, level: int) -> None:
    for name, graph in (("graph", True), ("eager", False)):
        asked = small_job("torch", level=level, epochs=3, devices=1, cuda_graph=graph)
        train(asked, tmp_path / name)
    assert distance(tmp_path / "graph", tmp_path / "eager") < 1e-6
