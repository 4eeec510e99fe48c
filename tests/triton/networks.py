"""Whole models by interpreted kernels, against PyTorch's; ``test_interpreted.py`` runs this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cliquegraph import NetworkSpec
from tests.networks import network, shipped
from tests.triton.interpreter import load

SPECS = {
    "quickstart": shipped("quickstart", "blocks.*.layers=2", "blocks.*.filters=4", "expect={}"),
    # 1×1 convolutions of one, two and more windows; attention, compression, several stages.
    "bottleneck": network(
        {"layers": 3, "filters": 5, "bottleneck": True, "stages": 3},
        {"kind": "dense", "layers": 2, "filters": 3, "bottleneck": 2},
        transition={"attention": True},
        readout={"compression": 0.5},
    ),
}
LEVELS = (1, 2)
KERNELS = ("affine_relu", "affine_relu_backward", "by_moments", "copy_with_moments")


@pytest.fixture(params=[(name, level) for name in SPECS for level in LEVELS], ids=str)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, NetworkSpec]:
    name, level = request.param
    return load(SPECS[name], level, tmp_path), SPECS[name]


def built(module: Any, spec: NetworkSpec, training: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model: nn.Module = getattr(module, spec.python_class)().double().train(training)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.dim() == 1:
            low = 0.5 if "var" in name or "weight" in name else -0.5
            tensor.data.uniform_(low, low + 1)
    image = spec.input
    return model, torch.randn(3, image.channels, image.height, image.width).double()


def outcome(
    module: Any, spec: NetworkSpec, triton: int, training: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Logits, gradients and statistics by the kernels of ``TRITON``, and what was launched."""
    launched: list[str] = []
    module.TRITON = triton
    with pytest.MonkeyPatch.context() as patch:
        for name in KERNELS:
            patch.setattr(module, name, noting(launched, name, getattr(module, name)))
        if hasattr(module, "BnRelu"):
            apply = module.BnRelu.apply
            patch.setattr(module.BnRelu, "apply", noting(launched, "BnRelu", apply))
        model, x = built(module, spec, training)
        y = model(x.requires_grad_())
        y.backward(torch.linspace(-1, 1, y.numel()).view_as(y).double())
    grads = {f"gradient of {name}": each.grad for name, each in model.named_parameters()}
    found = {"logits": y, "gradient": x.grad, **grads, **dict(model.named_buffers())}
    return {name: each.detach() for name, each in found.items() if each is not None}, launched


def noting(launched: list[str], name: str, run: Any) -> Any:
    def note(*arguments: Any) -> Any:
        place = {"affine_relu": 4, "affine_relu_backward": 6}.get(name, len(arguments))
        multiplies = place < len(arguments) and arguments[place] is not None
        launched.append(f"{name}, {'fused' if multiplies else 'alone'}")
        return run(*arguments)

    return note


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_it_is_what_pytorch_computes(file: tuple[Any, NetworkSpec], training: bool) -> None:
    right, launched = outcome(*file, 0, training)
    assert not launched
    for triton in (1, 2):
        found, launched = outcome(*file, triton, training)
        ways = {"alone"} if triton == 1 else {"alone", "fused"}
        assert {each.split(", ")[1] for each in launched} == ways
        kernels = {"affine_relu", "affine_relu_backward"}
        # At -O2 what is normalized by itself is recomputed, by PyTorch's kernels.
        kernels |= {"by_moments"} if training or file[0].__name__.endswith("o1") else set()
        kernels |= {"copy_with_moments"} if training else set()
        kernels |= {"BnRelu"} if hasattr(file[0], "BnRelu") else set()
        assert {each.split(", ")[0] for each in launched} == kernels
        assert found.keys() == right.keys()
        for name, tensor in right.items():
            size = max(tensor.abs().max().item(), 1e-3)
            assert (found[name] - tensor).abs().max() <= 1e-10 * size, (name, triton)


@pytest.mark.parametrize(
    ("name", "level", "way"), [("bottleneck", 1, "autocast"), ("quickstart", 2, "bfloat16")]
)
def test_half_types_lose_about_as_much_as_by_pytorchs_kernels(
    name: str, level: int, way: str, tmp_path: Path
) -> None:
    module, spec = load(SPECS[name], level, tmp_path), SPECS[name]
    found = []
    for triton, is_half in ((0, False), (0, True), (2, True)):
        module.TRITON = triton
        model, x = built(module, spec, training=True)
        x = torch.cat([x, 2 - x, x.flip(3), x.flip(2) / 2, 1.5 * x.roll(1, 3)])
        if is_half:
            dtype = torch.bfloat16 if way == "bfloat16" else torch.float32
            model, x = model.to(dtype), x.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half and way == "autocast"):
            y = model(x)
        y.backward(torch.linspace(-1, 1, y.numel()).view_as(y).to(y.dtype))
        grads = {name: each.grad for name, each in model.named_parameters()}
        tensors = grads | dict(model.named_buffers())
        found.append({name: each.double() for name, each in tensors.items()})
    right, *others = found
    by_pytorch, by_triton = (
        sum(((each[name] - of).norm() / max(of.norm(), 1e-3)) ** 2 for name, of in right.items())
        for each in others
    )
    assert by_triton <= 4 * by_pytorch, (by_triton / len(right), by_pytorch / len(right))


def test_backward_passes_of_a_retained_graph_are_equal(file: tuple[Any, NetworkSpec]) -> None:
    module, spec = file
    module.TRITON = 2
    model, x = built(module, spec, training=True)
    loss, tensors = model(x).square().sum(), list(model.parameters())
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    second = torch.autograd.grad(loss, tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_frozen_kernels(file: tuple[Any, NetworkSpec]) -> None:
    # Their gradients are not computed: PyTorch multiplies, Triton's kernel does the rest.
    module, spec = file
    found = []
    for triton in (0, 2):
        module.TRITON = triton
        model, x = built(module, spec, training=True)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.dim() < 4)
        norms = [each for each in model.parameters() if each.requires_grad]
        found.append(torch.autograd.grad(model(x).square().sum(), norms))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
