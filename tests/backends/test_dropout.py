"""Where dropout stands: a mask that depends on the position is applied at the same places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from cliquegraph import interpret, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.ir.storage import Array
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.plugins.backends import find_backend
from tests.function import images_for
from tests.networks import EVERY_KEY, network

NETWORKS = {
    "dropout": EVERY_KEY["dropout"],
    "post_activation": network(
        {"layers": 3, "filters": 3, "dropout": 0.25, "unit": "post_activation"},
        {"layers": 2, "filters": 3, "dropout": 0.25, "unit": "post_activation", "bottleneck": True},
    ),
}


def pattern(channels: int, height: int, width: int) -> Array:
    """Different for each element, so that no convolution or normalization can undo it."""
    return 1 + 0.5 * np.cos(np.arange(channels * height * width)).reshape(channels, height, width)


def masked(node: object, x: Array) -> Array:
    return x * pattern(*x.shape[1:])


def masked_torch(self: nn.Dropout, x: torch.Tensor) -> torch.Tensor:
    return x * torch.from_numpy(pattern(*x.shape[1:])) if self.training else x


def masked_flax(self: nnx.Dropout, x: Any) -> Any:
    height, width, channels = x.shape[1:]
    return x if self.deterministic else x * pattern(channels, height, width).transpose(1, 2, 0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("backend", "level"), [*(("torch", level) for level in LEVELS), ("flax", DEFAULT_LEVEL)]
)
def test_dropout_stands_where_the_interpreter_has_it(
    backend: str, level: int, name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", masked_torch)
    monkeypatch.setattr(nnx.Dropout, "__call__", masked_flax)
    compilation = Compilation(NETWORKS[name], level)
    lowered, graph = compilation.lowered, compilation.graph
    tensors, images = sample_tensors(graph), images_for(graph)
    expected = interpret(lowered, tensors, images, training=training, mask=masked)
    plain = interpret(lowered, tensors, images, training=training)
    assert np.allclose(expected.logits, plain.logits) != training

    chosen = find_backend(backend)
    executor = chosen.executor(compilation.source(chosen), "Small", graph, "float64")
    executor.load(tensors)
    found = executor.forward(images, training=training)
    assert found.logits == pytest.approx(expected.logits, rel=1e-9, abs=1e-11)
    for one, other in zip(found.features, expected.features, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-11)
