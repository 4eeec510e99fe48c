"""Every level on CPU tensors that behave as CUDA's: trained and evaluated as at -O0."""

from __future__ import annotations

import ast
import re
from contextlib import nullcontext
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.verify import relative_error
from cliquegraph.semantics.reduce import reductions
from tests.cuda.contracts import CONTRACTS
from tests.cuda.kernels import CudaError, CudaKernels, choose_as_on_cuda
from tests.levels import TOLERANCE, Model, Outcome, assert_same
from tests.networks import EVERY_KEY, SPECS, clique, graph_of, networks

PAGE = Path(__file__).parents[2] / "docs" / "cuda.md"
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def small_shipped() -> dict[str, NetworkSpec]:
    """Every shipped spec of few layers and filters on small images; one of each that are the same.

    Three layers read and write in every way that more do.
    """
    found: dict[str, NetworkSpec] = {}
    for path in sorted(SPECS.glob("*.yaml")):
        spec = cliquegraph.load(path)
        if any(block.kind in ("graph", "recurrent", "fractal") for block in spec.blocks):
            spec = next(reductions(cliquegraph.load(path, ["expect={}"]), graph_of(spec)))
            found.setdefault(graph_of(spec).digest(), spec)
            continue
        # Of maps of one pixel, the variance is all rounding.
        side = 64 if spec.input.height > 32 else 16
        small = ["expect={}", "blocks.*.filters=3", "stem.filters=4", "classifier.classes=5"]
        small += [f"input.height={side}", f"input.width={side}"]
        for i, block in enumerate(spec.blocks):
            few = 3 if getattr(block, "edges", "complete") == "complete" else 5
            small += [f"blocks.{i}.layers={few}"] if block.layers > few else []
        if any(getattr(block, "shortcut", None) == "pad" for block in spec.blocks):
            small.append("blocks.*.filters=4")  # no fewer maps than the stem's
        spec = cliquegraph.load(path, small)
        found.setdefault(graph_of(spec).digest(), spec)
    return {spec.name: spec for spec in found.values()}


NETWORKS = {**EVERY_KEY, **small_shipped()}


def outcome(model: Model, training: bool, layout: str) -> tuple[Outcome, set[str]]:
    """What a forward and a backward pass give under the CUDA kernels, and the operators run."""
    choose_as_on_cuda(model.module)
    model.module.train(training).to(memory_format=FORMATS[layout])
    x, kernels = model.images().to(memory_format=FORMATS[layout]), CudaKernels()
    with kernels:
        logits = model.module(x)
    return results(model, logits, kernels), kernels.called


def results(model: Model, logits: Tensor, backward: Any) -> Outcome:
    """Logits, gradients and statistics; the backward pass runs within a context."""
    # Not of a loss: what that calls is no business of the generated file.
    slopes = torch.linspace(-1, 1, logits.numel()).view_as(logits).to(logits.dtype)
    with backward:
        logits.backward(slopes)
    return {
        "logits": {"": logits.detach().numpy()},
        "gradients": model.gradients(),
        "statistics": model.statistics(),
    }


def expected(spec: NetworkSpec) -> dict[bool, Outcome]:
    """The same of -O0 on PyTorch's CPU kernels, evaluated and in training."""
    found = {}
    for training in (False, True):
        model = Model(spec, 0)
        model.module.train(training)
        found[training] = results(model, model.module(model.images()), nullcontext())
    return found


def assert_trained_and_evaluated_alike(spec: NetworkSpec, level: int, right: Any) -> None:
    literal = Model(spec, level)
    for training, layout in product((False, True), FORMATS):
        found, _ = outcome(deepcopy(literal), training, layout)
        assert_same(found, right[training])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_level_is_trained_and_evaluated_as_o0_is(name: str) -> None:
    spec = NETWORKS[name]
    right = expected(spec)
    for level in LEVELS:
        assert_trained_and_evaluated_alike(spec, level, right)
    folded = Model(spec, 0, inference=True)
    for layout in FORMATS:
        found, _ = outcome(deepcopy(folded), False, layout)
        assert relative_error(found["logits"], right[False]["logits"]) < TOLERANCE


@given(networks())
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
def test_so_is_every_level_of_random_networks(spec: NetworkSpec) -> None:
    right = expected(spec)
    for level in LEVELS:
        assert_trained_and_evaluated_alike(spec, level, right)


# ---- half types ----------------------------------------------------------------------------


def half(
    model: Model, images: Tensor, dtype: torch.dtype, how: str, training: bool, layout: str
) -> tuple[Tensor, Tensor]:
    """Logits of a model in a half type, and its gradient.

    Gradients are finite and of their parameters' types.
    """
    choose_as_on_cuda(model.module)
    stored = dtype if how == "whole" else torch.float32
    module = deepcopy(model.module).to(stored).train(training).to(memory_format=FORMATS[layout])
    x = images.to(stored).to(memory_format=FORMATS[layout])
    kernels = CudaKernels()
    with kernels, torch.autocast("cpu", dtype, enabled=how == "autocast"):
        logits: Tensor = module(x)
    slopes = torch.ones_like(logits)
    with kernels:
        logits.backward(slopes)
    for parameter in module.parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == parameter.dtype
            assert parameter.grad.isfinite().all()
    held = [p.grad.double().flatten() for p in module.parameters() if p.grad is not None]
    return logits.detach().double(), torch.cat(held)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["abc", "post_activation", "shared_norm", "dense"])
def test_half_types_are_as_precise_as_at_o0(name: str, dtype: torch.dtype, training: bool) -> None:
    models = [Model(EVERY_KEY[name], level) for level in LEVELS]
    if not training:
        models.append(Model(EVERY_KEY[name], 0, inference=True))
    # The mean of some batches: one that takes a ReLU across zero says nothing.
    random = torch.Generator().manual_seed(0)
    batches = [torch.randn(models[0].images().shape, generator=random) for _ in range(4)]
    for how, layout in product(("autocast", "whole"), FORMATS):
        errors = np.zeros((2, len(models)))
        for images in batches:
            exact = half(models[0], images, torch.float64, "whole", training, layout)
            for at, model in enumerate(models):
                found = half(model, images, dtype, how, training, layout)
                # Folded parameters are others: their gradients are not compared.
                for which in (0, 1) if at < len(LEVELS) else (0,):
                    distance = (found[which] - exact[which]).norm() / exact[which].norm()
                    errors[which, at] += float(distance) / len(batches)
        for each in errors:
            assert max(each) < 3 * each[0] + 16 * torch.finfo(dtype).eps, errors


# ---- that the emulation shows what it is for -----------------------------------------------


def test_columns_that_overlap_what_is_added_would_be_seen() -> None:
    buffer, factor = torch.rand(4, 8), torch.rand(4)
    with CudaKernels():
        buffer[:, :4].addcmul_(buffer[:, 4:], factor)
        torch.addcmul(factor, buffer[:, :4], factor, out=buffer[:, :4])  # one of its inputs
        with pytest.raises(CudaError, match="overlap"):
            buffer[:, :4].addcmul_(buffer[:, 3:7], factor)
        with pytest.raises(CudaError, match="overlap"):
            torch.mul(buffer[:, 3:7], factor, out=buffer[:, :4])


def test_a_pool_that_is_given_a_gradient_of_another_type_would_be_seen() -> None:
    x, pool = torch.rand(2, 3, 4, 4), ([2, 2], [2, 2], [0, 0], False, True, None)
    with CudaKernels(), pytest.raises(CudaError, match="gradient of"):
        torch.ops.aten.avg_pool2d_backward(x[..., :2, :2].bfloat16(), x, *pool)


@pytest.mark.parametrize("read", [bool, Tensor.item, Tensor.nonzero], ids=repr)
def test_a_host_that_waits_for_the_device_would_be_seen(read: Any) -> None:
    x = torch.rand(1)
    with CudaKernels(), pytest.raises(LookupError, match="CUDA contract of aten"):
        read(x > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scale_is_read_on_a_cpu_alone(dtype: torch.dtype) -> None:
    source = Compilation(EVERY_KEY["dense"], 1).source(find_backend("torch"))
    is_derivable: Any = load_source(source, "generated").is_derivable
    scale, data = torch.ones(3, dtype=dtype), torch.rand(4, 3, dtype=dtype)
    assert is_derivable(scale, data)
    with CudaKernels() as kernels:
        assert not is_derivable(scale, data)
    assert not kernels.called


def test_a_backward_pass_without_saved_statistics_would_be_seen() -> None:
    x, ones = torch.rand(2, 3, 4, 4), torch.ones(3)
    with CudaKernels(), pytest.raises(CudaError, match="save_mean should always be defined"):
        torch.ops.aten.native_batch_norm_backward(
            x, x, ones, ones, ones, None, None, False, 1e-5, [False, True, True]
        )


def test_parameters_of_two_types_would_be_seen() -> None:
    x, ones = torch.rand(2, 3, 4, 4).half(), torch.ones(3)
    with CudaKernels(), pytest.raises(CudaError, match="one scalar type"):
        torch.ops.aten.native_batch_norm_backward(
            *(x, x, ones.half(), ones, ones, None, None, False, 1e-5, [True, True, True])
        )


def test_an_operator_without_a_contract_is_an_error() -> None:
    x = torch.rand(3)
    with CudaKernels(), pytest.raises(LookupError, match=r"CUDA contract of aten\.cumsum"):
        x.cumsum(0)


# ---- the list ------------------------------------------------------------------------------


DIRECT = ("abc", "post_activation", "shared_norm", "dense", "defaults")
"""Networks whose files call every operator that a file calls."""


def called_directly(source: str) -> set[str]:
    """The operators that a file calls past autograd's rules.

    Those called as ``torch.ops.aten.NAME`` or ``aten.NAME``, or with an output of the caller's;
    ``addcmul_``, and the statistics of batch normalization.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            chain = re.fullmatch(r"(?:torch\.ops\.)?aten\.(\w+)(\.\w+)?", ast.unparse(node))
            if chain:
                found.add(chain[1])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if any(each.arg == "out" for each in node.keywords):
                found.add(name)
            if name in ("addcmul_", "batch_norm_update_stats"):
                found.add(name)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_what_files_call_directly_is_listed(name: str) -> None:
    ways: list[dict[str, Any]] = [*({"level": level} for level in LEVELS), {"inference": True}]
    listed = {name.split(".")[0] for name, contract in CONTRACTS.items() if contract.direct}
    for way in ways:
        source = Compilation(NETWORKS[name], **way).source(find_backend("torch"))
        assert called_directly(source) <= listed
        assert way.get("level") or not called_directly(source)  # -O0 calls none, nor folded


def test_what_is_listed_as_called_directly_is() -> None:
    ran = set()
    source = "".join(
        Compilation(each, 2).source(find_backend("torch"))
        for each in (clique(bottleneck=True), *(EVERY_KEY[name] for name in DIRECT))
    )
    named = called_directly(source)
    assert {name.split(".")[0] for name, each in CONTRACTS.items() if each.direct} == named
    for name in DIRECT:
        for level in LEVELS:
            ran |= outcome(Model(EVERY_KEY[name], level), True, "nchw")[1]
    assert {name for name, contract in CONTRACTS.items() if contract.direct} <= ran


def test_the_page_is_the_list() -> None:
    caller = {True: "the file", False: "PyTorch"}
    rows = [
        f"| `{name}` | {caller[each.direct]} | {each.demands} | {each.source} |"
        for name, each in CONTRACTS.items()
    ]
    text = PAGE.read_text(encoding="utf-8").partition("| operator | called by")[2]
    found = re.findall(r"^\| .* \|$", text, re.MULTILINE)
    assert found == rows, "\n".join(rows)
