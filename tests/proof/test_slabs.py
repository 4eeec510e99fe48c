"""Proofs of PyTorch's files above -O0: slabs, both ways to a scale's gradient, several parts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.emit.execute import load_source
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof import prove as proofs
from cliquegraph.proof.compare import GRADIENTS
from cliquegraph.proof.locate import Located
from cliquegraph.proof.prove import FileProof, Prover
from cliquegraph.semantics.homogeneous import HomogeneousDegrees, HomogeneousField
from cliquegraph_torch.trace import TorchTracer
from tests.networks import EVERY_KEY, clique, network

LAYERS = {"layers": 2, "filters": 2, "stages": 2}
# Transitions pool columns of a slab, bottlenecks read them by a 1×1 convolution.
SPECS = {
    "cliques": network(LAYERS, {**LAYERS, "bottleneck": True}, transition={"compression": 0.5}),
    "dense": network({"kind": "dense", "layers": 3, "filters": 2}, LAYERS),
    "dropout": clique(layers=2, filters=2, dropout=0.25),
    # The fewest updates with a bottleneck, a pool, and columns that are read in another order.
    "mutants": network(
        {"layers": 1, "filters": 2, "stages": 1, "bottleneck": True},
        LAYERS,
        transition={"compression": 0.5},
    ),
    # The last to read the first block reads X0 and stage 1; or stage 2 alone.
    "stage 1": network({**LAYERS, "layers": 3, "feature": 1, "transit": 2}, LAYERS),
    "stage 2": network({**LAYERS, "layers": 3}, LAYERS, readout={"blocks": "last"}),
    # Units of post-activation read copies of columns; or a copy is the last to read a slab.
    "copies": EVERY_KEY["post_activation"],
    "last copy": EVERY_KEY["shared_norm"],
}
TORCH = find_backend("torch")


def source_of(name: str, level: int) -> str:
    return Compilation(SPECS[name], level).source(TORCH)


@cache
def prover(name: str) -> Prover:
    return Prover(Compilation(SPECS[name], 0))


def prove(name: str, level: int, source: str | None = None) -> FileProof:
    return prover(name).prove(Compilation(SPECS[name], level), TORCH, source)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("name", ["cliques", "copies", "dense", "dropout", "stage 1", "stage 2"])
def test_files_with_slabs_are_proved(name: str, level: int) -> None:
    found = prove(name, level)
    assert found.ok, found.difference
    assert found.compared[GRADIENTS]


MUTANTS: dict[str, tuple[str, str]] = {
    "a wrong column": (
        "data[:, start:stop] = pixels(x)",
        "data[:, start:stop] = pixels(x.flip(1))",
    ),
    "a wrong window": (
        "windows.append((each.start, each.stop, at))",
        "windows.append((0, each.channels, at))",
    ),
    "windows in another order": (
        "windows: list[tuple[int, int, int]] = []",
        "features, windows = features[::-1], []",
    ),
    "windows that are joined": ("windows[-1][1] == each.start", "windows[-1][1] <= each.start"),
    "a column put elsewhere": ("self.stop = start + feature.channels", "self.stop = start"),
    "moments of other columns": (
        "[moments[:, a:b] for a, b, _ in windows]",
        "[moments[:, at : at + b - a] for a, b, at in windows]",
    ),
    "no mean": (
        "torch.addcmul(grad_mean, slope, moments[0], value=-1)",
        "-slope * moments[0]",
    ),
    "no mean of products": (
        "torch.addcmul(grad_mean, slope, moments[0], value=-1)",
        "grad_mean",
    ),
    "a slope": ("slope = 2 * grad_var", "slope = grad_var"),
    "moments' gradients in evaluation": (
        "        if training:\n            grad_mean",
        "        if True:\n            grad_mean",
    ),
    "no moments' gradients in training": (
        "        if training:\n            grad_mean",
        "        if False:\n            grad_mean",
    ),
    "columns between windows": ("grad[:, a:b].zero_()", "pass"),
    "columns before the first window": (
        "in zip(ends[::2], ends[1::2], strict=True):",
        "in list(zip(ends[::2], ends[1::2], strict=True))[1:]:",
    ),
    "columns behind the last window": (
        "in zip(ends[::2], ends[1::2], strict=True):",
        "in list(zip(ends[::2], ends[1::2], strict=True))[:-1]:",
    ),
    "a first gradient that is added": ("is_first = grad is None", "is_first = False"),
    "gradients that overwrite": ("is_first = grad is None", "is_first = True"),
    "a gradient that overwrites": (
        "target.addcmul_(source, factor[at : at + b - a])",
        "torch.mul(source, factor[at : at + b - a], out=target)",
    ),
    "a gradient of other columns": (
        "source, target = g_part[:, at : at + b - a]",
        "source, target = g_part[:, : b - a]",
    ),
    "a factor of other columns": (
        "factor[at : at + b - a]",
        "factor[: b - a]",
    ),
    "the moments' gradient overwrites": (
        "grad_moments[:, a:b].sub_(",
        "grad_moments[:, a:b].copy_(-",
    ),
    "the moments' gradient of other columns": (
        "grad_moments[:, a:b].sub_(of_moments[:, at : at + b - a])",
        "grad_moments[:, a:b].sub_(of_moments[:, : b - a])",
    ),
    "the variance's gradient": ("invstd * grad_scale / 2", "invstd * grad_scale"),
    "a derived scale": ("(products - bias * sum_g) / scale", "products / scale"),
    "a summed scale": ("(sum_gx - mean * sum_g) * invstd", "sum_gx * invstd"),
    "a summed scale of the last part": ("b - a].add_(products", "b - a].copy_(products"),
    "a bias of the last part": ("sum_g += g_part.sum(", "sum_g[:] = g_part.sum("),
    "a gradient of another part": (
        "(torch.split(each, rows) for each in tensors)",
        "(torch.split(each, rows)[:: 1 - 2 * (each is tensors[-1])] for each in tensors)",
    ),
    "a statistic of another norm": (
        "x, self.data, start, feature.norm)",
        "x, self.data, start, self.__dict__.setdefault(x.shape[1], feature.norm))",
    ),
    "momentum": ("mean, var, norm.momentum)", "mean, var, 2 * norm.momentum)"),
    "no ReLU": ("            out.relu_()", "            pass"),
    "no gradient of ReLU": (
        "torch.ops.aten.threshold_backward.grad_input(g_part, x_part, 0, grad_input=g_part)",
        "pass",
    ),
    "padding": (
        "F.conv2d(maps, w, padding=op.padding)",
        "F.conv2d(maps, w, padding=1 - op.padding)",
    ),
    "pool": ("F.avg_pool2d(maps, *op.pool)", "F.max_pool2d(maps, *op.pool)"),
    "the gradient of other images": (
        "gradients_of(op, x, grad_y,",
        "gradients_of(op, x, grad_y.flip(0),",
    ),
    "the stride of a pool's gradient": (
        "*([each] * 2 for each in op.pool)",
        "[op.pool[0] + 1] * 2, [op.pool[1]] * 2",
    ),
    "the maps of other images": ("in parts(y, data)", "in parts(y, data.flip(0))"),
    "the mask of other images": ("in parts(g, x, data,", "in parts(g, x.flip(0), data,"),
    "a copy of other columns": ("out[:, to] = maps[:, a:b]", "out[:, to] = maps[:, : b - a]"),
    "a copy's gradient of other images": (
        "g = grad_y.permute(0, 2, 3, 1)",
        "g = grad_y.flip(0).permute(0, 2, 3, 1)",
    ),
    "a copy's gradient that overwrites": (
        "target.copy_(source) if is_first else target.add_(source)",
        "target.copy_(source)",
    ),
    "a copy's first gradient that is added": (
        "target.copy_(source) if is_first else target.add_(source)",
        "target.add_(source)",
    ),
    "pixels of other images": (
        "x.view(-1, *size, x.shape[1])",
        "x.flip(0).view(-1, *size, x.shape[1])",
    ),
    "moments' gradients that begin at 1": (
        "mean.new_zeros(2, data.shape[1])",
        "mean.new_ones(2, data.shape[1])",
    ),
    "sums that begin at 1": ("factor.new_zeros(2,", "factor.new_ones(2,"),
    "a slab that is not passed on": (
        "self.state = tuple(state)",
        "self.state = tuple(each.detach() for each in state)",
    ),
    "a gradient that is not passed on": (
        "return grad, grad_moments, *tensors",
        "return torch.zeros_like(grad), grad_moments, *tensors",
    ),
    "moments' gradients that are not passed on": (
        "return grad, grad_moments, *tensors",
        "return grad, torch.zeros_like(grad_moments), *tensors",
    ),
}


IN_PARTS = {
    "a summed scale of the last part",
    "a bias of the last part",
    "a gradient of another part",
}
"""Mutants of what several parts have in common: the other trace, of derived scales, has one."""

ELSEWHERE = {
    "a copy of other columns": ("copies", 1),
    "a copy's gradient of other images": ("copies", 1),
    "a copy's gradient that overwrites": ("copies", 1),
    "a copy's first gradient that is added": ("last copy", 1),
    "columns before the first window": ("stage 2", 1),
    "columns behind the last window": ("stage 1", 1),
}
"""Mutants that compute the same in the usual file, with the network and level of another."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_changed_helper_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where it differs takes longer to find than that it does.
    monkeypatch.setattr(proofs, "locate_and_describe", lambda *_: Located("different"))
    (old, new), (spec, level) = MUTANTS[name], ELSEWHERE.get(name, ("mutants", 1))
    source = source_of(spec, level)
    assert old in source
    if name in IN_PARTS:
        source = source.replace("ROWS = 1024", "ROWS = 1")
    try:
        found = prove(spec, level, source.replace(old, new))
    except VerificationError:
        return  # it can't be traced
    assert found.difference is not None


@pytest.mark.parametrize(
    "edit",
    [
        ("abs().min() > 0.01", "abs().max() > 0.01"),
        ("return is_precise and bool(", "scale.add_(1)\n        return is_precise and bool("),
    ],
)
def test_an_edited_decision_is_refused(edit: tuple[str, str]) -> None:
    source = source_of("cliques", 1)
    assert edit[0] in source
    with pytest.raises(VerificationError, match=r"depends on the values|no meaning"):
        prove("cliques", 1, source.replace(*edit))


def test_a_decision_does_not_hide_behind_another_bool() -> None:
    source = source_of("cliques", 1).replace(
        "ROWS = 1024", "ROWS = 1024\nbool = lambda x: x.zero_()"
    )
    with pytest.raises(VerificationError, match=r"no meaning|depends on the values"):
        prove("cliques", 1, source)


def _trained(spec: NetworkSpec, level: int, rows: int) -> tuple[dict[str, Any], list[Tensor]]:
    """State and gradients after a training step, with parts of so many pixels."""
    torch.manual_seed(0)
    module = load_source(Compilation(spec, level).source(TORCH), "parts")
    assert module.ROWS == 1024
    module.ROWS = rows
    model = getattr(module, spec.python_class)().double()
    images = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    model(images).square().sum().backward()
    return model.state_dict(), [each.grad for each in model.parameters()]


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("name", ["cliques", "dense"])
def test_parts_of_a_few_pixels_equal_the_whole(name: str, level: int) -> None:
    expected, gradients = _trained(SPECS[name], level, 1024)
    for rows in (0, 1):  # single pixels, and parts of several
        state, found = _trained(SPECS[name], level, rows)
        for key, each in expected.items():
            torch.testing.assert_close(state[key], each, rtol=1e-12, atol=1e-12)
        for one, other in zip(found, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


class Aliased(nn.Module):
    """Writes into memory by ``data``, which is no operator."""

    def __init__(self, *, part: bool) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        (y[:1] if self.part else y).data.add_(x[:1])
        return y + x


def test_data_is_the_tensor_itself() -> None:
    program = TorchTracer(Aliased(part=False)).trace((3, 2, 4, 4), "evaluation")
    assert not any(step.operator == "constant" for step in program.steps)


# ---- ReLU(z) = ReLU'(z) z -------------------------------------------------------------------


def test_relu_is_homogeneous_and_its_derivative_is_of_its_result() -> None:
    field = HomogeneousField(3)
    for count in (5, 100, 7, 100):
        z = field.draw(count)
        y = field.relu(z)
        assert np.array_equal(field.multiply(field.step(y), z), y)
        assert np.array_equal(field.relu(z), y)
        assert not np.array_equal(field.step(y), HomogeneousField(3).step(y))  # of no result
    assert len(np.unique(field.step(y))) > 500


def test_a_random_number_may_be_divided_by_and_then_degrees_count_twice() -> None:
    degrees = HomogeneousDegrees()
    number = degrees.draw(2)
    assert degrees.relu(degrees.multiply(number, number))[0].tolist() == [3, 3]
    assert degrees.factor == 1
    assert degrees.inverse(number)[0].tolist() == [1, 1]
    assert degrees.factor == 2
    for other in (degrees.add(number, number), degrees.multiply(number, number)):
        with pytest.raises(VerificationError, match="divides by something"):
            degrees.inverse(other)
