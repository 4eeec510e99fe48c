"""Runs generated PyTorch models, for verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from cliquegraph.emit.execute import (
    all_kept,
    drop_paths,
    load_source,
    named_values,
    require_nothing_kept,
    watch,
)
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.storage import Array, Labels, from_storage, to_storage
from cliquegraph.ir.types import Param
from cliquegraph.plugins.backends import Outputs, Sgd
from cliquegraph_torch.live import LiveModel, find_tensor
from cliquegraph_torch.loss import mean_cross_entropy
from cliquegraph_torch.naming import TorchLayout
from cliquegraph_torch.rounding import RandomRounding

_LAYOUT = TorchLayout()
_DECLARED = frozenset({"_parameters", "_buffers", "_modules"})


class TorchExecutor:
    """A generated model on the CPU, without dropout, with set drop-path masks."""

    def __init__(self, source: str, class_name: str, graph: Graph, dtype: str) -> None:
        self._module = load_source(source, f"cliquegraph_generated_{graph.name}")
        self._dtype = {"float64": torch.float64, "float32": torch.float32}[dtype]
        model = getattr(self._module, class_name)()
        assert isinstance(model, nn.Module)  # noqa: S101  # this backend wrote it
        self._model = model.to(self._dtype)
        for module in self._model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self._graph = graph
        self._masks: dict[str, Tensor] = {}
        for path in drop_paths(graph):
            module = self._model.get_submodule(path)
            module.register_forward_hook(_mask_hook(self._masks, path))
            self._masks[path] = torch.empty(0)
        self.set_masks(all_kept(graph))
        self._optimizer = self._new_optimizer()
        self._rounding: AbstractContextManager[object] = nullcontext()

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter and running statistic, and forget the optimizer's state."""
        live = LiveModel(self._model)
        for param, array in to_storage(self._graph, tensors).items():
            live.write(_LAYOUT.name(param), array)
        self._optimizer = self._new_optimizer()

    def tensors(self) -> dict[str, Array]:
        """Return every parameter and running statistic."""
        storage = {param: _array(self._find(param)) for param in self._graph.params}
        return from_storage(storage)

    def round_at_random(self, seed: int) -> None:
        """From now on, change the last digit of each result of gradients and steps at random."""
        self._rounding = RandomRounding(seed)

    def set_masks(self, masks: Sequence[Array]) -> None:
        """Set what drop-path draws in training."""
        arrays = (torch.from_numpy(mask).to(self._dtype) for mask in masks)
        self._masks.update(zip(self._masks, arrays, strict=True))

    def parameters(self) -> int:
        """Count the trainable parameters of the model as its framework does."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    def forward(self, images: Array, *, training: bool) -> Outputs:
        """Run a forward pass; in training, it updates running statistics."""
        self._model.train(training)
        # Features come from a copy: in training, running statistics must be updated only once.
        copy: Any = deepcopy(self._model)
        with torch.no_grad():
            features = copy.forward_features(self._input(images))
            logits = self._model(self._input(images))
        require_nothing_kept(self._model.named_modules(), Tensor, _DECLARED)
        return Outputs(_array(logits), tuple(_array(feature) for feature in features))

    def activations(self, images: Array) -> dict[str, Array]:
        """Return each version of each layer in evaluation, by name."""
        self._model.eval()
        with torch.no_grad():
            model: Any = self._model  # mypy does not know a generated model's methods
            versions = model.activations(self._input(images))
        return {name: _array(maps) for name, maps in versions.items()}

    def gradients(self, images: Array, labels: Labels) -> tuple[float, dict[str, Array]]:
        """Return the mean cross entropy in training and the gradients of all parameters."""
        loss = self._backward(images, labels)
        gradients: dict[Param, Array] = {}
        for param in self._graph.params:
            if param.field.trainable:
                gradient = self._find(param).grad
                assert gradient is not None  # noqa: S101  # _backward leaves none without
                gradients[param] = _array(gradient)
        return loss, from_storage(gradients)

    def sgd_step(self, images: Array, labels: Labels) -> float:
        """Take one SGD step of ``Sgd()``; return the loss before it."""
        loss = self._backward(images, labels)
        self._optimizer.step()
        return loss

    def trace(self, images: Array, *, training: bool) -> dict[tuple[str, str], Array]:
        """Return the named values of one forward pass by section and name."""
        self._model.train(training)
        sections = {id(module): name for name, module in self._model.named_modules()}
        values: dict[tuple[str, str], Array] = {}
        with torch.no_grad():
            for owner, variables in watch(self._module, lambda: self._model(self._input(images))):
                for name, value in variables.items():
                    if isinstance(value, Tensor) and id(owner) in sections:  # not a slab's
                        values[sections[id(owner)], name] = _array(value)
        return named_values(self._graph, values)

    def _input(self, images: Array) -> Tensor:
        return torch.from_numpy(images).to(self._dtype)

    def _find(self, param: Param) -> Tensor:
        return find_tensor(self._model, _LAYOUT.name(param))

    def _backward(self, images: Array, labels: Labels) -> float:
        self._model.train()
        self._optimizer.zero_grad()
        with self._rounding:
            logits = self._model(self._input(images))
            loss = mean_cross_entropy(logits, torch.from_numpy(labels))
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch's own stub lacks it
        for parameter in self._model.parameters():
            # PyTorch's SGD skips parameters without a gradient; weight decay applies to all.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return float(loss.detach())

    def _new_optimizer(self) -> torch.optim.SGD:
        sgd = Sgd()
        return torch.optim.SGD(
            self._model.parameters(),
            sgd.learning_rate,
            sgd.momentum,
            weight_decay=sgd.weight_decay,
            nesterov=True,
        )


def _mask_hook(masks: Mapping[str, Tensor], path: str) -> Callable[..., Tensor]:
    """A forward hook on a module that draws masks: in training it returns the one that was set."""

    def hook(module: nn.Module, inputs: object, drawn: Tensor) -> Tensor:
        return masks[path].expand(drawn.shape) if module.training else drawn

    return hook


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().to(torch.float64).numpy().copy()
