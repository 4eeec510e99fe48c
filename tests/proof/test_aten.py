"""The rules of ATen's operators against PyTorch, and traced programs against the model."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.program import Context, Law, Program
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import PrimeField
from cliquegraph_torch.trace import TorchTracer
from tests.networks import shipped
from tests.proof.reals import Real

Call = Callable[..., Tensor]
Shape = tuple[int, ...]

MAPS = (2, 4, 6, 8)
MODULES: dict[str, tuple[nn.Module, Shape]] = {
    "convolution": (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), dilation=(1, 2)), MAPS),
    "groups": (nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=False), MAPS),
    "depthwise": (nn.Conv2d(4, 4, 3, 2, 1, groups=4), MAPS),
    "wide depthwise": (nn.Conv2d(4, 8, 3, 1, 1, groups=4), MAPS),
    "batch norm": (nn.BatchNorm2d(4), MAPS),
    "batch norm without scale": (nn.BatchNorm2d(4, affine=False), MAPS),
    "batch norm without statistics": (nn.BatchNorm2d(4, track_running_stats=False), MAPS),
    "group norm": (nn.GroupNorm(2, 4), MAPS),
    "group norm without scale": (nn.GroupNorm(2, 4, affine=False), MAPS),
    "local response": (nn.LocalResponseNorm(3, 0.1, 0.75), MAPS),
    "even local response": (nn.LocalResponseNorm(2, 0.1, 0.5), MAPS),
    "average pool": (nn.AvgPool2d(3, 2, 1), MAPS),
    "average pool without padding": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), MAPS),
    "max pool": (nn.MaxPool2d(3, 2, 1), MAPS),
    "dilated max pool": (nn.MaxPool2d(2, 1, 0, dilation=2), MAPS),
    "adaptive average": (nn.AdaptiveAvgPool2d((4, 3)), MAPS),
    "global average": (nn.AdaptiveAvgPool2d(1), MAPS),
    "adaptive maximum": (nn.AdaptiveMaxPool2d((3, 2)), MAPS),
    "upsampling": (nn.Upsample(scale_factor=2), MAPS),
    "linear": (nn.Linear(8, 3), MAPS),
    "linear on vectors": (nn.Linear(8, 3), (5, 8)),
    "padding": (nn.ZeroPad2d((1, -2, -1, 3)), MAPS),
    "padding by a number": (nn.ConstantPad2d((1, -2, -1, 3), 0.5), MAPS),
    "flatten": (nn.Flatten(), MAPS),
    "sigmoid": (nn.Sigmoid(), MAPS),
}


def branch(x: Tensor) -> Tensor:
    """In-place operators that write through views."""
    y = x.clone()
    y[:, 1:3].mul_(2).add_(x[:, :2], alpha=3)
    y[0, 0].sub_(1).div_(4)
    y[:, ::2, 1:].relu_()
    return y


FUNCTIONS: dict[str, Call] = {
    "numbers": lambda x: (1 - x) * 2 + x / 4 - 3 - x,
    "of two": lambda x: (x + x[:1]) * x[:, :1] - x[:, :, :1] / x[0, 0],
    "powers": lambda x: x.pow(2) + x.pow(-1) + x.pow(0.25) + x.sqrt() + x.rsqrt() + x.square(),
    "reciprocal": lambda x: x.reciprocal() + 2 / x,
    "sums": lambda x: x.sum() + x.sum((0, 2), keepdim=True) + x.mean() + x.mean(1, keepdim=True),
    "variance": lambda x: x.var((0, 2, 3)) + torch.var_mean(x, (0, 2, 3), correction=0)[0],
    "in place": branch,
    "cat": lambda x: torch.cat([x, x[:, 1:]], 1),
    "stack": lambda x: torch.stack([x, 2 * x], 2) + torch.stack([x, x], -3),
    "parts": lambda x: (
        sum(x.chunk(2, 1)) + x.split([1, 2, 1], 1)[1][:, :1] + x.unbind(1)[0][:, None]
    ),
    "uneven parts": lambda x: x.split(3, 1)[0] * x.split(3, 1)[1],
    "views": lambda x: x.view(2, 2, 2, 6, 8).transpose(1, 2).reshape(2, 4, 6, 8) + x.flip(1),
    "permuted": lambda x: (
        x.permute(0, 2, 3, 1).contiguous().flatten(1) @ torch.ones(192, 2).double()
    ),
    "expanded": lambda x: x[:, :1].expand(-1, 4, -1, -1) * x.mean((2, 3))[:, :, None, None],
    "squeezed": lambda x: x[:, :1].squeeze(1).unsqueeze(-1).squeeze() + x[..., 0, 0].sum(),
    "interpolated": lambda x: torch.lerp(x, x * x, 0.3) + torch.lerp(x, x * x, x),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "chosen": lambda x: torch.where(torch.tensor([True, False] * 4), x, 2 * x),
    "filled": lambda x: (
        x * torch.full((8,), 0.1, dtype=x.dtype)
        + torch.ones_like(x)
        + x.new_zeros(8)
        + torch.arange(8)
    ),
    "repeated": lambda x: x[0].repeat(2, 1, 1, 1) * x,
    "products": lambda x: (
        (x.flatten(0, 1) @ x.flatten(0, 1).transpose(1, 2)).sum(0).mv(x[0, 0, :, 0])
    ),
    "largest": lambda x: F.adaptive_max_pool2d(x, 1),
    "empty": lambda x: torch.empty_like(x).zero_() + torch.empty(8).fill_(2) + x,
    "copied": lambda x: torch.zeros_like(x).copy_(x[:1]) + x,
}


class Function(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


class Scaled(nn.Module):
    """A module behind a parameter, so that the gradient of its input is computed."""

    def __init__(self, inner: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x * self.scale)
        return y


def kept(number: int, law: Law, shape: Shape) -> Any:
    return np.ones(shape)


def agree(tracer: TorchTracer, shape: Any, training: bool, bound: float = 1e-10) -> Program:
    """Require that a program's results on real numbers are those of the model."""
    exact = Real()
    program = tracer.trace(shape, "training" if training else "evaluation", gradients=True)
    arrays = {name: exact.draw(*each) for name, each in tracer.shapes.items()}
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    for name in tracer.parameters:
        tensors[name].requires_grad_()
    counters = {name: torch.tensor(3) for name in program.counters}
    images = exact.draw(*shape)
    tracer.model.train(training)
    given = {**tensors, **counters}
    logits = functional_call(tracer.model, given, (torch.from_numpy(images.copy()),))
    cotangent = exact.draw(*logits.shape)
    named = {name: tensors[name] for name in program.gradients}
    gradients = torch.autograd.grad(
        logits, list(named.values()), torch.from_numpy(cotangent), allow_unused=True
    )
    feed = {program.tensors[name]: array for name, array in arrays.items()}
    feed |= {number: np.array(3.0) for number in program.counters.values()}
    feed |= {program.images: images}
    assert program.cotangent is not None
    results = program.run(Context(exact, kept), {**feed, program.cotangent: cotangent})
    expected = {program.logits: logits, **{program.after[n]: given[n] for n in program.after}}
    for (name, number), gradient in zip(program.gradients.items(), gradients, strict=True):
        assert (number is None) == (gradient is None), name
        if number is not None and gradient is not None:
            expected[number] = gradient
    for number, tensor in expected.items():
        np.testing.assert_allclose(results[number], tensor.detach().numpy(), bound, bound)
    return program


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_and_its_gradients_are_pytorchs(name: str, training: bool) -> None:
    module, shape = MODULES[name]
    agree(TorchTracer(Scaled(module, shape)), shape, training, 1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradient_are_pytorchs(name: str) -> None:
    agree(TorchTracer(Scaled(Function(FUNCTIONS[name]), MAPS)), MAPS, True, 1e-12)


@pytest.mark.parametrize("name", [*MODULES])
def test_degrees_know_every_rule_that_they_can_bound(name: str) -> None:
    module, shape = MODULES[name]
    tracer = TorchTracer(Scaled(module, shape))
    program = tracer.trace(shape, "training", gradients=True)  # type: ignore[arg-type]
    for exact in (PrimeField(0, 2), Degrees()):
        sizes = {program.tensors[name]: each for name, each in tracer.shapes.items()}
        feed = {number: exact.draw(*each) for number, each in sizes.items()}
        feed |= {number: exact.draw() for number in program.counters.values()}
        feed[program.images] = exact.draw(*shape)
        assert program.cotangent is not None
        logits = tracer.model(torch.ones(shape).double())
        feed[program.cotangent] = exact.draw(*logits.shape)
        results = program.run(Context(exact, kept), feed)
        assert results[program.logits].shape[1:] == logits.shape


def quickstart(level: int) -> tuple[str, TorchTracer]:
    source = Compilation(shipped("quickstart"), level).source(find_backend("torch"))
    return source, traced(source)


def traced(source: str) -> TorchTracer:
    found = re.search(r'__all__ = \["(\w+)"\]', source)
    assert found is not None
    return TorchTracer.of_source(source, found[1], "quickstart")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_generated_program_computes_what_the_model_does(level: int) -> None:
    source, tracer = quickstart(level)
    program = agree(tracer, (3, 1, 6, 6), True)
    assert len(program.features) == 2
    assert {name for name in program.after if "num_batches" not in name} == {
        name for name in tracer.shapes if "running" in name
    }
    lines = source.splitlines()
    assert all(each.line is None or each.line <= len(lines) for each in program.steps)
    sites = {lines[each.line - 1].strip() for each in program.steps if each.line}
    assert any("sigmoid" in site for site in sites)
    agree(tracer, (3, 1, 6, 6), False)


@pytest.mark.parametrize("level", [0, 2])
def test_activations_come_from_the_pass_of_the_logits(level: int) -> None:
    _, tracer = quickstart(level)
    program = tracer.trace((2, 1, 8, 8), "evaluation", activations=True)
    assert {"block1.X0", "block1.X1@1", "block2.X4@2"} <= set(program.activations)
    convolutions = [each for each in program.steps if "convolution" in each.operator]
    plain = tracer.trace((2, 1, 8, 8), "evaluation")
    assert len(convolutions) == sum("convolution" in each.operator for each in plain.steps)


def test_the_digest_depends_on_what_is_computed_alone() -> None:
    source, tracer = quickstart(0)
    digest = tracer.trace((2, 1, 8, 8), "training", gradients=True).digest

    def changed(old: str, new: str) -> str:
        assert old in source
        tracer = traced(source.replace(old, new))
        return tracer.trace((2, 1, 8, 8), "training", gradients=True).digest

    assert (
        changed(
            "        x = torch.cat(sources, 1)", "# a comment\n        x = torch.cat(sources, 1)"
        )
        == digest
    )
    assert changed("pooled1", "vector1") == digest
    assert (
        changed("nn.BatchNorm2d(in_channels)", "nn.BatchNorm2d(in_channels, eps=1.00001e-5)")
        != digest
    )
    assert changed("torch.sigmoid", "torch.relu") != digest


def test_steps_name_what_they_write_into() -> None:
    program = TorchTracer(nn.BatchNorm2d(4)).trace(MAPS, "training")
    moved = {program.tensors["running_mean"], program.tensors["running_var"]}
    assert any(set(step.mutates) >= moved for step in program.steps)
    assert any(set(step.mutates) & set(program.counters.values()) for step in program.steps)


def test_random_choices_are_numbered_in_order() -> None:
    module = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(4, 2, 1), nn.Dropout2d(0.5))
    drawn: list[tuple[int, Law, Shape]] = []

    def draw(number: int, law: Law, shape: Shape) -> Any:
        drawn.append((number, law, shape))
        return np.ones(shape)

    tracer = TorchTracer(module)
    program = tracer.trace(MAPS, "training")
    exact = Real()
    feed = {program.tensors[name]: exact.draw(*each) for name, each in tracer.shapes.items()}
    program.run(Context(exact, draw), {**feed, program.images: exact.draw(*MAPS)})
    assert [(number, law[0]) for number, law, _ in drawn] == [(0, "element"), (1, "element")]
    assert [law[1] for _, law, _ in drawn] == [Fraction(1, 5), Fraction(1, 2)]
    assert [shape for *_, shape in drawn] == [MAPS, (2, 2, 1, 1)]


def test_a_recomputed_choice_keeps_its_number() -> None:
    from torch.utils.checkpoint import checkpoint

    def call(x: Tensor) -> Tensor:
        y: Tensor = checkpoint(lambda z: F.dropout(z.relu(), 0.2), x, use_reentrant=False)
        return F.dropout(y, 0.2)

    tracer = TorchTracer(Scaled(Function(call), MAPS))
    program = tracer.trace(MAPS, "training", gradients=True)
    draws = [step for step in program.steps if "bernoulli" in step.operator]
    assert [step.attributes.split(",")[0] for step in draws] == ["(0", "(1", "(0"]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (torch.exp, "aten.exp.default has no meaning"),
        (lambda x: x * float(x.sum()), "depends on the values"),
        (lambda x: x if x.detach().numpy().sum() > 400 else 2 * x, r"numpy\(\) reads a tensor's"),
        (lambda x: x * x.long(), "rounded to integers"),
        (lambda x: torch.mul(x, x, out=x.new_empty(0)), r"mul\.out resizes what it writes into"),
        (lambda x: x * torch.from_numpy(x.detach().numpy() + 1), r"numpy\(\) reads a tensor's"),
    ],
)
def test_what_has_no_exact_meaning_is_refused(call: Call, problem: str) -> None:
    tracer = TorchTracer(Function(call))
    with pytest.raises(VerificationError, match=problem):
        tracer.trace(MAPS, "evaluation")


def test_a_trace_leaves_the_model_and_the_generator_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    tracer = TorchTracer(model)
    tracer.trace(MAPS, "training", gradients=True)
    assert torch.equal(state, torch.get_rng_state())
    for each in (model, tracer.model):
        assert all(torch.equal(each.state_dict()[name], before[name]) for name in before)
