"""The predicted bytes that a training step moves, against what PyTorch's operators move."""

from __future__ import annotations

import pytest
import torch

from benchmarks import torch_runs
from benchmarks.bytes_moved import BytesMoved
from cliquegraph import NetworkSpec
from cliquegraph.passes.pipeline import LEVELS
from tests.backends.test_torch_memory import CASES, plan_of

NETWORKS = [name for name in CASES if name not in ("dead steps", "k36_t12", "S0")]


def moved(spec: NetworkSpec, level: int, batch: int) -> tuple[int, int]:
    """The bytes of a forward and of a backward pass, counted while they run."""
    model = torch_runs.generated_model(spec, level).to(memory_format=torch.channels_last)
    size = spec.input.channels, spec.input.height, spec.input.width
    images = torch.randn(batch, *size).contiguous(memory_format=torch.channels_last)
    with BytesMoved() as counted:
        logits = model(images)
        forward = counted.total
        logits.sum().backward()
    return forward, counted.total - forward


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_step_moves_of_maps_is_predicted(name: str, level: int) -> None:
    small, large = (moved(CASES[name], level, batch) for batch in (2, 4))
    plan = plan_of(CASES[name], level)
    # What does not depend on the batch, parameters and moments, is in neither.
    for predicted, two, four in zip(
        (plan.moved_forward, plan.moved_backward), small, large, strict=True
    ):
        assert predicted == pytest.approx((four - two) / 2, rel=0.015)


def test_the_slab_and_recomputation_move_as_much_or_more() -> None:
    plans = [plan_of(CASES["S0"], level) for level in LEVELS]
    literal, slab, recomputed = (plan.moved_forward + plan.moved_backward for plan in plans)
    assert slab == pytest.approx(literal, rel=0.1)
    assert recomputed > slab
    assert plan_of(CASES["S0"], 1, batch=8).moved_forward == 8 * plans[1].moved_forward
