"""A generated PyTorch model at an -O level, and all that training tells of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from cliquegraph import NetworkSpec, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array, from_storage, to_storage
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.verify import relative_error
from cliquegraph_torch.live import find_tensor
from cliquegraph_torch.loss import mean_cross_entropy
from cliquegraph_torch.naming import TorchLayout
from tests.function import images_for, statistics_in_use

TOLERANCE = 1e-10

Outcome = dict[str, dict[str, Array]]
"""What one forward and backward pass gives, by canonical name."""


def kept(module: nn.Module, inputs: object, mask: Tensor) -> Tensor:
    """In training every branch and every operand is kept."""
    if not module.training:
        return mask
    ones = torch.ones_like(mask)
    return ones / len(mask) if mask.ndim == 1 else ones


@lru_cache(maxsize=64)  # the random networks come once
def compiled(spec: NetworkSpec, level: int, inference: bool) -> tuple[Compilation, str]:
    """A compilation and its PyTorch source: what a network is at a level, many tests ask."""
    compilation = Compilation(spec, level, inference)
    return compilation, compilation.source(find_backend("torch"))


class Model:
    """A generated model with sampled weights, the same at every level; nothing is left out."""

    def __init__(
        self,
        spec: NetworkSpec,
        level: int,
        *,
        inference: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        compilation, source = compiled(spec, level, inference)
        self.graph = compilation.graph
        created = getattr(load_source(source, "generated"), spec.python_class)()
        self.module: Any = created.to(dtype)
        for module in self.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif type(module).__name__.endswith(("DropPath", "JoinWeights")):
                module.register_forward_hook(kept)
        shared = compiled(spec, max(LEVELS), False)[0].graph
        self.moving = statistics_in_use(shared)  # not those of steps that nothing needs
        tensors = sample_tensors(shared)
        tensors = compilation.folded(tensors) if inference else tensors
        with torch.no_grad():
            for param, held in to_storage(self.graph, tensors).items():
                find_tensor(self.module, TorchLayout().name(param)).copy_(torch.from_numpy(held))

    def images(self) -> Tensor:
        return torch.from_numpy(images_for(self.graph))

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch."""
        logits: Tensor = self.module(x)
        return mean_cross_entropy(logits, torch.arange(len(x)) % logits.shape[-1])

    def outcome(self, x: Tensor) -> Outcome:
        """What a forward and a backward pass give."""
        self.module.zero_grad()
        loss = self.forward(x)
        loss.backward()
        found = {"loss": {"": loss.detach().numpy()}, "gradients": self.gradients()}
        if x.grad is not None:
            found["gradients"]["images"] = x.grad.numpy()
        return {**found, "statistics": self.statistics()}

    def gradients(self) -> dict[str, Array]:
        """Those that there are."""
        held = {
            param: find_tensor(self.module, TorchLayout().name(param)).grad
            for param in self.graph.params
        }
        return from_storage({p: grad.numpy() for p, grad in held.items() if grad is not None})

    def statistics(self) -> dict[str, Array]:
        statistics = [param for param in self.graph.params if not param.field.trainable]
        held = {
            param: find_tensor(self.module, TorchLayout().name(param)).numpy()
            for param in statistics
        }
        return {name: a * self.moving[name] for name, a in from_storage(held).items()}


def assert_same(found: Outcome, expected: Outcome) -> None:
    for what, arrays in expected.items():
        assert relative_error(found[what], arrays) < TOLERANCE, what
