"""Traces PyTorch models into programs of ATen's operators, to evaluate them exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.behavior import class_of_template, deviation
from cliquegraph.emit.execute import load_source
from cliquegraph.proof.program import Law, Program
from cliquegraph.semantics.arithmetic import rational
from cliquegraph_torch.choices import chooses, chosen
from cliquegraph_torch.recorder import Recorder, rate_of
from cliquegraph_torch.unseen import hooks_refused, is_hooked, reads_refused

Mode = Literal["training", "evaluation"]

_TEMPLATES = {
    "DropPath": "drop_path",
    "ImageDropPath": "image_drop_path",
    "JoinWeights": "join_weights",
    "ColumnJoinWeights": "column_join_weights",
    "DrawColumn": "draw_column",
}
"""The classes of a generated file that draw, and the templates that define them."""

_COUNTER = "num_batches_tracked"

_IMPORTS = """\
import torch
from torch import Tensor, nn

"""


class TorchTracer:
    """A PyTorch model, in float64 on the CPU, that can be traced.

    Args:
        model: the model, of which it takes a copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: nn.Module = deepcopy(model).to("cpu", torch.float64)
        # Copies have no hooks.
        self._hooked = [
            name
            for name, each in (*model.named_parameters(), *model.named_buffers())
            if is_hooked(each)
        ]
        self._file = type(model).forward.__code__.co_filename

    @classmethod
    def of_source(cls, source: str, class_name: str, name: str) -> TorchTracer:
        """Return the tracer of a model's source.

        Args:
            source: a module's text.
            class_name: the class of the model, which is built without arguments.
            name: of the module, for messages.
        """
        model = getattr(load_source(source, name), class_name)()
        assert isinstance(model, nn.Module)  # noqa: S101  # the caller names a model's class
        return cls(model)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of parameters and running statistics by their keys in ``state_dict``."""
        tensors = {**dict(self.model.named_parameters()), **self._buffers(counters=False)}
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    @property
    def parameters(self) -> frozenset[str]:
        """The keys of the parameters that are trained."""
        named = self.model.named_parameters()
        return frozenset(name for name, tensor in named if tensor.requires_grad)

    @cached_property
    def chooses(self) -> bool:
        """Whether gradients of scales are derived or summed, as their values are."""
        return chooses(self.model)

    def trace(
        self,
        shape: tuple[int, int, int, int],
        mode: Mode,
        *,
        gradients: bool = False,
        activations: bool = False,
        derives: bool = False,
    ) -> Program:
        """Trace one call of the model.

        Args:
            shape: of the images: (batch, channels, height, width).
            mode: in training, running statistics move, and random choices are drawn.
            gradients: with respect to all parameters, of ⟨logits, cotangent⟩.
            activations: also return each version of each layer, of a generated model.
            derives: whether gradients of scales are derived, where the model ``chooses``; else they
                are summed, and maps are computed part by part.

        Raises:
            VerificationError: the model calls an operator whose meaning in exact arithmetic is not
                known, or what it computes depends on the values of tensors; names the line.
        """
        if self._hooked:
            raise VerificationError(
                f"a hook that changes gradients can't be traced: {self._hooked[0]} has one"
            )
        training, threads = self.model.training, torch.get_num_threads()
        self.model.train(mode == "training")
        torch.set_num_threads(1)  # for small images more only wait for each other
        try:
            # Random numbers are drawn for sizes alone, and must not move those of the caller. Two
            # traces, of different numbers, are equal unless the model looks at them.
            with torch.random.fork_rng(devices=[]):
                once, again = (
                    self._trace(shape, seed, gradients, activations, derives) for seed in range(2)
                )
        finally:
            self.model.train(training)
            torch.set_num_threads(threads)
        if once.digest != again.digest:
            raise VerificationError(
                "what the model computes depends on the values of tensors, other than by operators"
            )
        return once

    def _trace(
        self, shape: tuple[int, ...], seed: int, gradients: bool, activations: bool, derives: bool
    ) -> Program:
        torch.manual_seed(seed)
        recorder = Recorder(self._file)
        pixels_of_batch = prod(shape) // shape[1]
        images = _drawn(shape)
        pixels = recorder.enter(images)
        trained = dict(self.model.named_parameters())
        statistics, counts = (self._buffers(counters=each) for each in (False, True))
        tensors = {name: _drawn(each.shape) for name, each in {**trained, **statistics}.items()}
        learned = self.parameters if gradients else frozenset()
        for name in learned:
            tensors[name].requires_grad_()
        counters = {name: torch.zeros_like(each) for name, each in counts.items()}
        inputs = {name: recorder.enter(each) for name, each in tensors.items()}
        starts = {name: recorder.enter(each) for name, each in counters.items()}
        given = {**tensors, **counters}
        for name, buffer in self.model.named_buffers():
            if name not in given:  # a constant, of which this is a copy
                given[name] = buffer.detach().clone()
        whole = _Whole(self.model, recorder, activations=activations)
        slopes: Sequence[Tensor | None] = ()
        cotangent: int | None = None
        trainable = [name for name in trained if name in learned]
        with (
            hooks_refused(self.model, given.values()),
            _draws_recorded(self.model, recorder),
            reads_refused(recorder),
            chosen(self.model, recorder, pixels_of_batch, derives=derives)
            if self.chooses
            else nullcontext(),
            torch.set_grad_enabled(gradients),
        ):
            with recorder:
                logits, features, versions, state = functional_call(
                    whole, {f"model.{name}": each for name, each in given.items()}, (images,)
                )
            recorder.backward = True
            if gradients:
                direction = _drawn(logits.shape)
                cotangent = recorder.enter(direction)
                slopes = [None for _ in trainable]
                if logits.requires_grad:
                    with recorder:
                        slopes = torch.autograd.grad(
                            logits,
                            [tensors[name] for name in trainable],
                            grad_outputs=direction,
                            allow_unused=True,
                        )
        recorder.require_no_problem()
        for name, tensor in given.items():
            moves = name in statistics or name in counters
            changed = state.get(name) is not tensor or recorder.is_written(tensor)
            if name not in state or (changed and not moves):
                kind = "parameter" if name in trained else "buffer"
                raise VerificationError(f"a call of the model changes its {kind} {name}")
        number = recorder.number
        gradient = {
            name: None if slope is None else number(slope)
            for name, slope in zip(trainable, slopes, strict=True)
        }
        return Program(
            images=pixels,
            cotangent=cotangent,
            tensors=inputs,
            counters=starts,
            logits=number(logits),
            features=tuple(map(number, features)),
            gradients=gradient,
            after={name: number(state[name]) for name in (*statistics, *counts)},
            activations={name: number(maps) for name, maps in versions.items()},
            steps=tuple(recorder.steps),  # after the outputs, which may be constants
        )

    def _buffers(self, *, counters: bool) -> dict[str, Tensor]:
        """The buffers of the model's state that count batches, or its statistics.

        Other integers are constants: a model may index by them.
        """
        state = self.model.state_dict()
        kept = {name: buffer for name, buffer in self.model.named_buffers() if name in state}
        if counters:
            return {name: each for name, each in kept.items() if name.endswith(_COUNTER)}
        return {name: each for name, each in kept.items() if each.is_floating_point()}


class _Whole(nn.Module):
    """A model that returns its logits, its block features and, if wanted, its activations.

    All come from one pass: a generated model's other methods compute theirs from what its
    ``gather`` returns, or its ``forward_features`` where it has no other.
    """

    def __init__(self, model: nn.Module, recorder: Recorder, *, activations: bool) -> None:
        super().__init__()
        self.model = model
        self._recorder = recorder
        self._activations = activations

    def forward(
        self, x: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor], dict[str, Tensor]]:
        """Return logits, features, activations, and parameters and buffers after the pass.

        Args:
            x: images, (batch, channels, height, width).

        Raises:
            VerificationError: the model computes its features twice.
        """
        model: Any = self.model  # mypy does not know a generated model's methods
        shared = "gather" if hasattr(model, "gather") else "forward_features"
        if not hasattr(model, "forward_features"):
            return model(x), (), {}, self._state()
        compute = getattr(model, shared)
        features: list[Tensor] = []
        results: list[Any] = []
        calls = 0  # by one method

        def once(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise self._recorder.error(
                    f"{shared} is called twice in one forward pass: which features are those of "
                    "the blocks?"
                )
            if not results:
                results.append(compute(*args, **kwargs))
                calls = 0
                with torch.no_grad():
                    each = model.forward_features(x)
                    if isinstance(each, tuple | list):  # others' methods return the last maps alone
                        # Copies, because the rest of the pass may write into them.
                        features.extend(maps.clone() for maps in each)
                calls = 1
            return results[0]

        setattr(model, shared, once)
        try:
            versions = model.activations(x) if self._activations else {}
            versions = {name: maps.clone() for name, maps in versions.items()}
            calls = 0
            logits = model(x)
        finally:
            delattr(model, shared)
        return logits, tuple(features), versions, self._state()

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers, which a model may have replaced."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}


@contextmanager
def _draws_recorded(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Let the modules of generated files that draw in training record it as one step each."""
    replaced = []
    for module in model.modules():
        forward = _drawing(module, recorder) if module.training else None
        if forward is not None:
            module.forward = forward  # of the instance alone
            replaced.append(module)
    try:
        yield
    finally:
        for module in replaced:
            del module.forward


def _drawing(module: nn.Module, recorder: Recorder) -> Any:
    """The forward method of a module that draws, None of others.

    A class that draws otherwise than that of our template is traced as it is.
    """
    name = type(module).__name__
    if name not in _TEMPLATES or not _is_generated(module):
        return None
    drawn: Any = module  # mypy does not know what its class has
    if name == "DrawColumn":
        law = ("column", rational(drawn.rate), drawn.columns)
        return lambda x: _choice(recorder, law, (drawn.columns,), torch.bool)
    if name in ("JoinWeights", "ColumnJoinWeights"):
        columns = tuple(getattr(drawn, "columns", ()))
        join = ("join", rational(drawn.rate), columns)
        count = len(columns) or drawn.count

        def weigh(x: Tensor, column: Tensor | None = None) -> Tensor:
            return _choice(recorder, join, (count,), x.dtype, column)

        return weigh
    per_image = name == "ImageDropPath"
    branch = ("branch", rate_of(drawn.survival), per_image)

    def drop(x: Tensor) -> Tensor:
        shape = (x.shape[0] if per_image else 1, 1, 1, 1)
        return _choice(recorder, branch, shape, x.dtype)

    return drop


def _is_generated(module: nn.Module) -> bool:
    """Whether a module does what the class of this name does in a generated file."""
    kind, name = type(module), type(module).__name__
    ours = class_of_template("cliquegraph_torch", f"{_TEMPLATES[name]}.py.jinja", name, _IMPORTS)
    changed = deviation(kind, ours, ("__init__", "forward"), ("torch", "nn"))
    return changed is None and "forward" not in vars(module)


def _choice(
    recorder: Recorder,
    law: Law,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    read: Tensor | None = None,
) -> Tensor:
    """Record a random choice; its value here is as good as any."""

    def value() -> Tensor:
        torch.rand(())  # moves the generator on, as drawing does
        return torch.ones(shape, dtype=dtype)

    return recorder.draw(law, shape, value, read)


def _drawn(shape: Sequence[int]) -> Tensor:
    """Random numbers in float64, positive ones so that they may be variances."""
    return torch.empty(*shape, dtype=torch.float64).uniform_(0.5, 1.5)
