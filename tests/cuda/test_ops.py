"""Every op of its own in PyTorch, on CPU tensors that behave as CUDA's, in every precision."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from cliquegraph.ir.storage import Array
from tests.backends.test_ops import EVERY, FORMATS, case, drawn, expected, slopes_of, torch_model
from tests.cuda.kernels import CudaError, CudaKernels

HALF = torch.bfloat16


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("how", ["float64", "autocast", "whole"])
@pytest.mark.parametrize("name", EVERY)
def test_it_computes_the_definition(name: str, how: str, layout: str) -> None:
    graph, definition = case(name)
    images, tensors = drawn(graph)
    images, *tensors = map(rounded, (images, *tensors))
    right = expected(definition, images, tensors)
    stored = {"float64": torch.float64, "autocast": torch.float32, "whole": HALF}[how]
    model = torch_model(graph, tensors, stored).to(memory_format=FORMATS[layout])
    x = torch.from_numpy(images).to(stored).contiguous(memory_format=FORMATS[layout])
    kernels = CudaKernels()
    with kernels, torch.autocast("cpu", HALF) if how == "autocast" else nullcontext():
        features = model.forward_features(x.requires_grad_())
        (y,) = features
    if y.requires_grad:
        slopes = torch.from_numpy(slopes_of(y.detach().double().numpy())).to(y.dtype)
        with kernels:
            y.backward(slopes)
    gradients = [x.grad, *(p.grad for n, p in model.named_parameters() if n.startswith("stem"))]
    tolerance = 1e-10 if how == "float64" else 0.05
    for result, reference in zip((y, *gradients), right, strict=True):
        if result is None:  # of zeros
            assert not reference.any()
            continue
        error = result.detach().double() - torch.from_numpy(reference)
        assert error.norm() <= tolerance * max(1, np.linalg.norm(reference))


def rounded(array: Array) -> Array:
    """The nearest elements that the half type has: where maps are equal, does not depend on it."""
    return torch.from_numpy(array).to(HALF).double().numpy()


def test_group_norm_of_channels_last_maps_is_nchw_there() -> None:
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    norm = torch.nn.GroupNorm(3, 6)
    with CudaKernels():
        y = norm(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y, norm(x))
    with CudaKernels(), pytest.raises(CudaError, match="one type"):
        norm(x.bfloat16())
