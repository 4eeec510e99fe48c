"""The predicted bytes that a training step moves, against what PyTorch's operators move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import torch_runs
from benchmarks.bytes_moved import BytesMoved
from cliquegraph import NetworkSpec
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.memory import MemoryPlan
from cliquegraph_torch.memory import memory_plan
from tests.backends.one_op import class_of, graph_of_ops
from tests.backends.test_torch_memory import CASES, CONV, OPS, plan_of
from tests.networks import EVERY_KEY

NETWORKS = [name for name in CASES if name not in ("k36_t12", "S0")]  # these take longest


def moved(
    model: nn.Module, size: tuple[int, ...], batch: int, dtype: torch.dtype = torch.float32
) -> tuple[int, int]:
    """The bytes of a forward and of a backward pass, counted while they run."""
    model = model.to(dtype).to(memory_format=torch.channels_last)
    images = torch.randn(batch, *size).to(dtype).contiguous(memory_format=torch.channels_last)
    with BytesMoved() as counted:
        logits = model(images)
        forward = counted.total
        logits.sum().backward()
    return forward, counted.total - forward


def assert_predicted(
    plan: MemoryPlan,
    build: Callable[[], nn.Module],
    size: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    rel: float = 0.005,
) -> None:
    small, large = (moved(build(), size, batch, dtype) for batch in (2, 4))
    # What does not depend on the batch, parameters and moments, is in neither.
    for predicted, two, four in zip(
        (plan.moved_forward, plan.moved_backward), small, large, strict=True
    ):
        assert predicted == pytest.approx((four - two) / 2, rel=rel)


def assert_network_predicted(
    spec: NetworkSpec, level: int, dtype: torch.dtype = torch.float32, rel: float = 0.005
) -> None:
    size = spec.input.channels, spec.input.height, spec.input.width
    plan = plan_of(spec, level, dtype=str(dtype).removeprefix("torch."))
    build = partial(torch_runs.generated_model, spec, level)
    assert_predicted(plan, build, size, dtype, rel)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_step_moves_of_maps_is_predicted(name: str, level: int) -> None:
    rel = 0.015 if (name, level) == ("post-activation", 2) else 0.005
    assert_network_predicted(CASES[name], level, rel=rel)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", list(EVERY_KEY))
def test_what_every_key_moves_is_predicted(name: str, level: int) -> None:
    # Some copies of features are not, nor the moments of groups; both weigh in small networks.
    copies = "post_activation", "over_time", "residual_mixed", "join_drop", "from_zeros"
    assert_network_predicted(EVERY_KEY[name], level, rel=0.05 if name in copies else 0.005)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["quickstart", "bottleneck, attention, compression"])
def test_half_precision_sums_more_products(name: str, level: int) -> None:
    assert_network_predicted(CASES[name], level, torch.bfloat16)


@pytest.mark.parametrize("name", OPS)
def test_what_an_op_moves_is_predicted(name: str) -> None:
    graph = graph_of_ops(CONV, *OPS[name], replace(CONV, filters=4), channels=3, size=(24, 20))
    assert_predicted(memory_plan(graph), class_of(graph, "torch"), (3, 24, 20))


def test_levels_move_other_amounts() -> None:
    plans = [plan_of(CASES["S0"], level) for level in LEVELS]
    literal, slab, recomputed = (plan.moved_forward + plan.moved_backward for plan in plans)
    assert 0.9 * literal < slab < literal < recomputed
    assert plan_of(CASES["S0"], 1, batch=8).moved_forward == 8 * plans[1].moved_forward
