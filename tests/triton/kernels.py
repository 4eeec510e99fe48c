"""Kernels against float64 autograd of the plain formulas; ``test_interpreted.py`` runs this."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.networks import shipped
from tests.triton.interpreter import load

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(shipped("quickstart"), 1, tmp_path_factory.mktemp("kernels"))


class Case(NamedTuple):
    """Columns of a slab that a reader reads, as ``Slab.read`` describes them."""

    pixels: int
    channels: int
    windows: list[tuple[int, int, int]]
    outputs: int
    add: bool
    seed: int


@st.composite
def cases(draw: st.DrawFn, most: int) -> Case:
    """Windows of any sizes in any order, with gaps between them; or the whole slab."""
    widths = draw(st.lists(st.sampled_from([1, 3, 8, 16, 40, 70]), min_size=1, max_size=most))
    gaps = draw(st.lists(st.sampled_from([0, 1, 8]), min_size=len(widths), max_size=len(widths)))
    places, channels = [], 0
    for width, gap in zip(widths, gaps, strict=True):
        places.append((channels + gap, channels + gap + width))
        channels += gap + width
    windows, at = [], 0
    for a, b in draw(st.permutations(places)):
        windows.append((a, b, at))
        at += b - a
    return Case(
        pixels=draw(st.sampled_from([1, 31, 64, 65, 130])),
        channels=channels + draw(st.sampled_from([0, 5])),
        windows=windows,
        outputs=draw(st.sampled_from([1, 10, 16, 40, 160])),
        add=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


class Tensors(NamedTuple):
    data: Tensor
    affine: tuple[Tensor, Tensor]
    w: Tensor
    grad: Tensor


def tensors(case: Case, dtype: torch.dtype) -> Tensors:
    torch.manual_seed(case.seed)
    wide, read = torch.promote_types(dtype, torch.float32), sum(b - a for a, b, _ in case.windows)
    drawn = (torch.randn(size, dtype=torch.float64) for size in [read] * 2)
    factor, shift = (each.to(wide) for each in drawn)
    w = torch.randn(case.outputs, read, dtype=torch.float64) / read**0.5
    data, grad = (torch.randn(case.pixels, case.channels, dtype=torch.float64) for _ in range(2))
    return Tensors(data.to(dtype), (factor, shift), w.to(dtype), grad.to(dtype))


def expected(
    case: Case, found: Tensors, g: Tensor, w: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, and gradients of the slab, of shift and factor, and of w, all in float64."""
    data, *affine = (each.double().requires_grad_() for each in (found.data, *found.affine))
    x = torch.cat([data[:, a:b] for a, b, _ in case.windows], 1)
    y = torch.relu(x * affine[0] + affine[1])
    leaves = [data, affine[1], affine[0]]
    if w is not None:
        leaves.append(w.double().requires_grad_())
        y = y @ leaves[-1].T
    slab, shift, factor, *of_w = torch.autograd.grad(y, leaves, g.double())
    return y, slab, torch.stack((shift, factor)), of_w[0] if of_w else torch.empty(0, len(shift))


def assert_near(found: Tensor, right: Tensor, dtype: torch.dtype) -> None:
    assert found.shape == right.shape
    if right.numel():
        error, size = (found.double() - right).abs().max(), right.abs().max()
        assert error <= TOLERANCES[dtype] * max(size.item(), 1.0)


def check(kernels: Any, case: Case, dtype: torch.dtype, *, multiplies: bool) -> None:
    found = tensors(case, dtype)
    read, w = len(found.affine[0]), found.w if multiplies else None
    y = found.data.new_empty(case.pixels, read if w is None else case.outputs)
    arguments = case.windows, found.affine
    kernels.affine_relu(found.data, *arguments, y, None if w is None else w.t().contiguous())
    g = torch.randn(y.shape, dtype=torch.float64).to(dtype)
    right_y, right_slab, right_sums, right_w = expected(case, found, g, w)
    assert_near(y, right_y.detach(), dtype)

    data, grad = found.data.clone(), found.grad.clone()
    sums, grad_w = kernels.affine_relu_backward(g, data, grad, *arguments, case.add, w)
    assert torch.equal(data, found.data)
    columns = torch.cat([torch.arange(a, b) for a, b, _ in case.windows])
    before = found.grad.double() if case.add else torch.zeros_like(right_slab)
    assert_near(grad[:, columns], (before + right_slab)[:, columns], dtype)
    others = torch.ones(case.channels, dtype=torch.bool).index_fill(0, columns, False)
    assert torch.equal(grad[:, others], found.grad[:, others])  # those of other readers
    assert sums.dtype == grad_w.dtype == found.affine[0].dtype
    assert_near(sums, right_sums, dtype)
    assert_near(grad_w, right_w, dtype)
    if not multiplies:  # the sums alone
        only = kernels.affine_relu_backward(g, data, None, *arguments, False)[0]
        assert torch.equal(only, sums) and torch.equal(data, found.data)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@given(case=cases(most=3))
@settings(max_examples=8)
def test_a_reader_of_any_columns(kernels: Any, dtype: torch.dtype, case: Case) -> None:
    check(kernels, case, dtype, multiplies=False)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@given(case=cases(most=2))
@settings(max_examples=8)
def test_a_reader_that_is_a_pointwise_convolution(
    kernels: Any, dtype: torch.dtype, case: Case
) -> None:
    check(kernels, case, dtype, multiplies=True)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@given(case=cases(most=1))
@settings(max_examples=8)
def test_a_gradient_by_way_of_moments(
    kernels: Any, dtype: torch.dtype, masks: bool, case: Case
) -> None:
    found, ((a, b, _),) = tensors(case, dtype), case.windows
    data, grad, (factor, shift) = found.data[:, a:b], found.grad[:, a:b], found.affine
    slope, offset = (torch.randn_like(factor) for _ in range(2))
    y = kernels.by_moments(data, grad, slope, offset, found.affine if masks else None)
    x, g = data.double(), grad.double()
    if masks:
        g = g * factor * (x * factor + shift > 0)
    assert y.is_contiguous() and y.dtype == dtype
    assert_near(y, x * slope + offset + g, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("mean", [0.0, 30.0])
@given(case=cases(most=1))
@settings(max_examples=8)
def test_maps_are_copied_with_their_moments(
    kernels: Any, dtype: torch.dtype, mean: float, case: Case
) -> None:
    ((start, stop, _),) = case.windows
    rows, wide = case.pixels * 9 + 1, torch.promote_types(dtype, torch.float32)
    torch.manual_seed(case.seed)
    x = (torch.randn(rows, stop - start, dtype=torch.float64) + mean).to(dtype)
    slab, moments = (
        torch.zeros(rows, case.channels).to(dtype),
        torch.zeros(2, case.channels).to(wide),
    )
    norm = torch.nn.BatchNorm2d(stop - start, momentum=0.25).to(dtype)
    kernels.copy_with_moments(x, slab[:, start:stop], moments[:, start:stop], norm)
    assert torch.equal(slab[:, start:stop], x)
    assert slab.count_nonzero() <= x.numel() and moments.count_nonzero() <= 2 * (stop - start)
    var, means = torch.var_mean(x.double(), 0, correction=0)
    assert_near(moments[0, start:stop], means, wide)
    assert_near(moments[1, start:stop], var, wide)
    assert_near(norm.running_mean, means / 4, dtype)
    assert_near(norm.running_var, 0.75 + var * rows / (rows - 1) / 4, dtype)


@pytest.mark.parametrize(("rows", "channels"), [(5000, 1000), (20_000, 5)])
def test_moments_of_many_shares(kernels: Any, rows: int, channels: int) -> None:
    torch.manual_seed(0)
    # 79 tiles, three to a share: 27 of 33 shares have pixels, and the last of these has one tile.
    # Of 5 channels 79 shares of a tile each, more than are merged at once.
    x = torch.randn(rows, channels, dtype=torch.float64)
    moments, norm = x.new_zeros(2, channels), torch.nn.BatchNorm2d(channels, momentum=0.5).double()
    kernels.copy_with_moments(x, torch.empty_like(x), moments, norm)
    var, means = torch.var_mean(x, 0, correction=0)
    assert_near(moments, torch.stack((means, var)), torch.float64)
    assert_near(norm.running_mean, means / 2, torch.float64)
    assert_near(norm.running_var, 0.5 + var * rows / (rows - 1) / 2, torch.float64)


@pytest.mark.parametrize("outputs", [128, 200, 256, 384])
def test_as_many_outputs_as_a_program_has(kernels: Any, outputs: int) -> None:
    check(kernels, Case(70, 30, [(5, 30, 0)], outputs, True, 0), torch.float64, multiplies=True)


def test_many_shares_of_the_pixels(kernels: Any) -> None:
    # Of 3,000 pixels, 94 tiles; the most shares are 66; where it multiplies, 17 of 19.
    case = Case(3000, 1000, [(0, 1000, 0)], 8, False, 0)
    check(kernels, case, torch.float64, multiplies=False)
    check(kernels, case._replace(pixels=600), torch.float64, multiplies=True)


def test_nan_stays(kernels: Any) -> None:
    data, ones = torch.tensor([[float("nan"), -1.0, 1.0]]), torch.ones(3)
    y, grad, g = torch.empty(1, 3), torch.empty(1, 3), torch.ones(1, 3)
    kernels.affine_relu(data, [(0, 3, 0)], (ones, 0 * ones), y)
    assert y.isnan().tolist() == [[True, False, False]]
    kernels.affine_relu_backward(g, data, grad, [(0, 3, 0)], (ones, 0 * ones), False)
    assert grad.tolist() == [[1.0, 0.0, 1.0]]  # as that of torch.relu
