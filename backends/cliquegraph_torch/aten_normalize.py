"""Rules of ATen's normalizations and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

import torch

from cliquegraph.semantics.arithmetic import Array, move
from cliquegraph.semantics.field import Exact
from cliquegraph_torch.aten_rules import (
    along,
    averaged,
    but_channels,
    inverse_root,
    moments,
    number,
    require,
    rule,
    summed,
)

_ATEN = torch.ops.aten


@rule(_ATEN.native_batch_norm.default)
def batch_norm(
    exact: Exact,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Batch normalization; the moments of a batch move the running ones, which it writes."""
    if training:
        mean, var = update_statistics(exact, x, running_mean, running_var, momentum)
    else:
        assert running_mean is not None  # noqa: S101  # PyTorch requires them
        assert running_var is not None  # noqa: S101  # likewise
        mean, var = running_mean, running_var
    invstd = inverse_root(exact, exact.offset(var, number(eps)))
    y = exact.subtract(x, along(exact, mean, x))
    y = _affine(exact, exact.multiply(y, along(exact, invstd, x)), weight, bias)
    return (y, mean, invstd) if training else (y, mean[..., :0], invstd[..., :0])


@rule(_ATEN.native_batch_norm.out)
def batch_norm_into(
    exact: Exact,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    *,
    out: Array,
    save_mean: Array,
    save_invstd: Array,
) -> tuple[Array, Array, Array]:
    """Batch normalization into a given tensor, and in training of its moments."""
    given = (x, weight, bias, running_mean, running_var, training, momentum, eps)
    y, mean, invstd = batch_norm(exact, *given)
    out[...] = y
    if training:
        save_mean[...], save_invstd[...] = mean, invstd
    return out, save_mean, save_invstd


@rule(_ATEN._native_batch_norm_legit.default)
def batch_norm_of_statistics(
    exact: Exact,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Batch normalization with running statistics."""
    given = (x, weight, bias, running_mean, running_var, training, momentum, eps)
    return batch_norm(exact, *given)


@rule(_ATEN._native_batch_norm_legit.no_stats)
def batch_norm_without_statistics(
    exact: Exact,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Batch normalization without running statistics."""
    return batch_norm(exact, x, weight, bias, None, None, True, momentum, eps)


@rule(_ATEN.batch_norm_update_stats.default)
def update_statistics(
    exact: Exact, x: Array, mean: Array | None, var: Array | None, momentum: float
) -> tuple[Array, Array]:
    """The mean and the biased variance of each channel; moves the running ones toward them."""
    over = but_channels(exact, x)
    observed_mean, observed_var = (each.squeeze(over) for each in moments(exact, x, over))
    if mean is not None and var is not None:
        count = prod(x.shape[each] for each in over)
        unbiased = exact.scale(observed_var, Fraction(count, count - 1))
        mean[...] = move(exact, mean, observed_mean, number(momentum))
        var[...] = move(exact, var, unbiased, number(momentum))
    return observed_mean, observed_var


@rule(_ATEN.native_batch_norm_backward.default)
def batch_norm_backward(
    exact: Exact,
    grad: Array,
    x: Array,
    weight: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    save_mean: Array | None,
    save_invstd: Array | None,
    training: bool,
    eps: float,
    wanted: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of batch normalization: of maps, scale and bias.

    In training, x̂ = (x - mean) / √(var + ε) and its gradient is that of the moments, too:
    (∂x̂ - mean of ∂x̂ - x̂ × mean of ∂x̂ x̂) / √(var + ε), as Ioffe and Szegedy, 2015, section 3.
    """
    over = but_channels(exact, x)
    if training:
        mean, invstd = save_mean, save_invstd
    else:
        assert running_var is not None  # noqa: S101  # PyTorch requires them
        mean, invstd = running_mean, inverse_root(exact, exact.offset(running_var, number(eps)))
    assert mean is not None  # noqa: S101  # in training PyTorch saves both
    assert invstd is not None  # noqa: S101  # likewise
    scale = along(exact, invstd, x)
    normal = exact.multiply(exact.subtract(x, along(exact, mean, x)), scale)
    grad_bias = summed(exact, grad, over)
    grad_weight = summed(exact, exact.multiply(grad, normal), over)
    grad_x = None
    if wanted[0]:
        slope = grad
        if training:
            count = prod(x.shape[each] for each in over)
            shift, slant = (exact.divide(each, count) for each in (grad_bias, grad_weight))
            slope = exact.subtract(slope, along(exact, shift, x))
            slope = exact.subtract(slope, exact.multiply(normal, along(exact, slant, x)))
        if weight is not None:
            scale = exact.multiply(scale, along(exact, weight, x))
        grad_x = exact.multiply(slope, scale)
    return grad_x, grad_weight if wanted[1] else None, grad_bias if wanted[2] else None


@rule(_ATEN.native_group_norm.default)
def group_norm(
    exact: Exact,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    batch: int,
    channels: int,
    pixels: int,
    groups: int,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Normalization of each image and group of channels; mean and 1/√ are (batch, groups)."""
    of_groups = _grouped(exact, x, groups)
    mean, var = moments(exact, of_groups, (-2, -1))
    invstd = inverse_root(exact, exact.offset(var, number(eps)))
    normal = exact.multiply(exact.subtract(of_groups, mean), invstd).reshape(x.shape)
    return _affine(exact, normal, weight, bias), mean[..., 0, 0], invstd[..., 0, 0]


@rule(_ATEN.native_group_norm_backward.default)
def group_norm_backward(
    exact: Exact,
    grad: Array,
    x: Array,
    mean: Array,
    invstd: Array,
    weight: Array | None,
    batch: int,
    channels: int,
    pixels: int,
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of group normalization: of maps, scale and bias."""
    of_groups = _grouped(exact, x, groups)
    scale = invstd[..., None, None]
    normal = exact.multiply(exact.subtract(of_groups, mean[..., None, None]), scale)
    over = but_channels(exact, x)
    grad_weight = grad_bias = grad_x = None
    if wanted[0]:
        inner = grad
        if weight is not None:
            inner = exact.multiply(grad, along(exact, weight, x))
        inner = _grouped(exact, inner, groups)
        shift = averaged(exact, inner, (-2, -1), keep=True)
        slant = averaged(exact, exact.multiply(inner, normal), (-2, -1), keep=True)
        slope = exact.subtract(exact.subtract(inner, shift), exact.multiply(normal, slant))
        grad_x = exact.multiply(slope, scale).reshape(x.shape)
    if wanted[1]:
        grad_weight = summed(exact, exact.multiply(grad, normal.reshape(x.shape)), over)
    if wanted[2]:
        grad_bias = summed(exact, grad, over)
    return grad_x, grad_weight, grad_bias


def _grouped(exact: Exact, x: Array, groups: int) -> Array:
    """Maps as (batch, groups, channels / groups, pixels)."""
    lead = x.shape[: exact.lead]
    batch, channels = x.shape[exact.lead : exact.lead + 2]
    require(channels % groups == 0, f"of {channels} channels in {groups} groups")
    return x.reshape(*lead, batch, groups, channels // groups, -1)


def _affine(exact: Exact, x: Array, weight: Array | None, bias: Array | None) -> Array:
    """Maps times the scale of their channel, plus its bias."""
    if weight is not None:
        x = exact.multiply(x, along(exact, weight, x))
    if bias is not None:
        x = exact.add(x, along(exact, bias, x))
    return x
