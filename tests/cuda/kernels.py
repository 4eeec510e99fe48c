"""CPU tensors under the contracts of PyTorch's CUDA kernels.

    with CudaKernels():
        model(x).backward()  # raises, or is wrong, where a GPU would raise or be wrong

A CPU kernel is often more lenient than its CUDA counterpart: it leaves outputs alone that the
other writes and reads, takes types that the other refuses. Nothing here measures rounding.
Sources: PyTorch's ``aten/src/ATen/native``; ``contracts.py`` names the file for each operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cuda.contracts import CONTRACTS

ATEN = torch.ops.aten
CUDA = torch.device("cuda", 0)

Kernel = Callable[..., Any]
KERNELS: dict[Any, Kernel] = {}
"""What runs in the place of an operator, by overload; the others run as they are."""


class CudaError(RuntimeError):
    """What the CUDA kernel would raise."""


class CudaDevice(TorchFunctionMode):
    """Lets tensors say that they are on CUDA, to code that chooses by their device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:
            return CUDA
        if kwargs.get("device") == CUDA:
            kwargs["device"] = torch.device("cpu")
        return func(*args, **kwargs)


def choose_as_on_cuda(module: torch.nn.Module) -> None:
    """Let a generated file's backward pass, where no mode hears questions, choose as on CUDA."""
    names = type(module).forward.__globals__
    if "is_derivable" in names:
        names["is_derivable"] = lambda scale, data: False
        names["parts"] = lambda *tensors: [tensors]


class CudaKernels(TorchDispatchMode):
    """Runs each operator by its contract; one without a contract is an error.

    No operator that the host waits for has one (``_local_scalar_dense``, ``nonzero``).

    Attributes:
        called: the names of the operators that ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()
        self._device = CudaDevice()

    def __enter__(self) -> Self:
        super().__enter__()
        self._device.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._device.__exit__(*error)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        if name not in CONTRACTS:
            raise LookupError(f"nobody has written down the CUDA contract of aten.{name}")
        self.called.add(name)
        return KERNELS.get(func, func)(*args, **(kwargs or {}))


def kernel(*overloads: Any) -> Callable[[Kernel], Kernel]:
    """Let a function stand for these operators."""

    def register(function: Kernel) -> Kernel:
        KERNELS.update(dict.fromkeys(overloads, function))
        return function

    return register


def demand(holds: bool, message: str) -> None:
    if not holds:
        raise CudaError(message)


# ---- batch normalization -------------------------------------------------------------------


def accumulate_type(x: Tensor) -> torch.dtype:
    """What a CUDA kernel sums maps of this type in."""
    return torch.promote_types(x.dtype, torch.float32)


def per_channel(vector: Tensor, dtype: torch.dtype) -> Tensor:
    return vector.to(dtype)[:, None, None]


def demand_parameters(x: Tensor, *vectors: Tensor | None) -> torch.dtype:
    """Scale, bias and running statistics are of one type: that of the maps or a wider one."""
    types = {vector.dtype for vector in vectors if vector is not None}
    demand(len(types) <= 1, f"expected one scalar type of parameters but found {types}")
    (dtype,) = types or {x.dtype}
    demand(dtype in (x.dtype, accumulate_type(x)), f"maps of {x.dtype}, parameters of {dtype}")
    return dtype


def moments_of(x: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = ATEN.var_mean.correction(x.to(accumulate_type(x)), [0, 2, 3], correction=0)
    return mean, var


def move(running: Tensor | None, found: Tensor, momentum: float) -> None:
    if running is not None:
        running.copy_(found * momentum + (1 - momentum) * running.to(found.dtype))


def update_running(
    x: Tensor, mean: Tensor, var: Tensor, running: Sequence[Tensor | None], momentum: float
) -> None:
    count = x.numel() // x.shape[1]
    move(running[0], mean, momentum)
    move(running[1], var * (count / (count - 1)), momentum)


@kernel(ATEN.native_batch_norm.default)
def batch_norm(
    x: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """``batch_norm_cuda``: in evaluation too, it saves what it normalizes by."""
    demand_parameters(x, scale, bias)
    wide = accumulate_type(x)
    if training:
        mean, var = moments_of(x)
        update_running(x, mean, var, (running_mean, running_var), momentum)
    else:
        demand(running_mean is not None and running_var is not None, "has_running_mean")
        mean, var = running_mean.to(wide), running_var.to(wide)  # type: ignore[union-attr]
    invstd = torch.rsqrt(var + eps)
    y = (x.to(wide) - per_channel(mean, wide)) * per_channel(invstd, wide)
    y = y if scale is None else y * per_channel(scale, wide)
    y = y if bias is None else y + per_channel(bias, wide)
    return torch.empty_like(x).copy_(y), mean, invstd


@kernel(ATEN.native_batch_norm_backward.default)
def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    training: bool,
    eps: float,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """``batch_norm_backward_cuda``: one fused kernel, or a reduction and an element-wise one."""
    demand(grad.dtype == x.dtype, f"grad_output of {grad.dtype}, input of {x.dtype}")
    wide = accumulate_type(x)
    channels_last = x.is_contiguous(memory_format=torch.channels_last) or (
        x.is_contiguous() and x.stride(1) == 1
    )
    reduces = training or mask[1] or mask[2]
    if reduces and mask[0] and not channels_last:
        demand_parameters(x, scale, running_mean, running_var)
        by_saved = training  # in evaluation the fused kernel reads the running statistics
    else:
        for name, saved in (("save_mean", save_mean), ("save_invstd", save_invstd)):
            demand(saved is not None, f"{name} should always be defined")
        by_saved = save_mean.numel() > 0  # type: ignore[union-attr]
        demand(by_saved or not training, "saved statistics are empty in training")
    if by_saved:
        demand(save_mean is not None and save_invstd is not None, "no saved statistics")
        mean, invstd = save_mean, save_invstd
        demand(mean.dtype == invstd.dtype == wide, f"saved statistics are not of {wide}")
    else:
        demand(running_mean is not None and running_var is not None, "no running statistics")
        mean = running_mean.to(wide)  # type: ignore[union-attr]
        invstd = torch.rsqrt(running_var.to(wide) + eps)  # type: ignore[union-attr]
    dy, slope = grad.to(wide), invstd if scale is None else invstd * scale.to(wide)
    centered = x.to(wide) - per_channel(mean, wide)
    sums = dy.sum((0, 2, 3)), (dy * centered).sum((0, 2, 3))
    grad_x = None
    if mask[0] and training:
        count = x.numel() // x.shape[1]
        slant = per_channel(sums[1] / count * invstd * invstd, wide)
        grad_x = dy - per_channel(sums[0] / count, wide) - centered * slant
        grad_x = (grad_x * per_channel(slope, wide)).to(grad.dtype)
    elif mask[0]:
        grad_x = (dy * per_channel(slope, wide)).to(grad.dtype)
    kind = wide if scale is None else scale.dtype
    grad_scale = (sums[1] * invstd).to(kind) if mask[1] else None
    return grad_x, grad_scale, sums[0].to(kind) if mask[2] else None


@kernel(ATEN.batch_norm_update_stats.default)
def batch_norm_update_stats(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    """``batch_norm_update_stats_cuda``: returns moments of the accumulate type."""
    demand((running_mean is None) == (running_var is None), "one running statistic is undefined")
    mean, var = moments_of(x)
    update_running(x, mean, var, (running_mean, running_var), momentum)
    return mean, var


# ---- group normalization -------------------------------------------------------------------


@kernel(ATEN.native_group_norm.default)
def group_norm(
    x: Tensor, scale: Tensor | None, bias: Tensor | None, *sizes: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """``native_group_norm``: maps are made contiguous first."""
    types = {each.dtype for each in (x, scale, bias) if each is not None}
    demand(len(types) == 1, f"maps, scale and bias should be of one type, are {types}")
    result: tuple[Tensor, Tensor, Tensor] = ATEN.native_group_norm.default(
        x.contiguous(), scale, bias, *sizes
    )
    return result


@kernel(ATEN.native_group_norm_backward.default)
def group_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, scale: Tensor | None, *rest: Any
) -> tuple[Tensor | None, ...]:
    """``native_group_norm_backward``: the same."""
    types = {each.dtype for each in (grad, x, mean, invstd, scale) if each is not None}
    demand(len(types) == 1, f"gradient, maps, moments and scale are of {types}")
    tensors = (grad.contiguous(), x.contiguous(), mean, invstd, scale)
    result: tuple[Tensor | None, ...] = ATEN.native_group_norm_backward.default(*tensors, *rest)
    return result


# ---- pools ---------------------------------------------------------------------------------


@kernel(ATEN.avg_pool3d.default)
def average_pool_3d(x: Tensor, *args: Any) -> Tensor:
    """``avg_pool3d_out_cuda``: half types too, which the CPU's kernel refuses."""
    result: Tensor = ATEN.avg_pool3d.default(x.to(accumulate_type(x)), *args)
    return result.to(x.dtype)


@kernel(ATEN.avg_pool3d_backward.default)
def average_pool_3d_backward(grad: Tensor, x: Tensor, *args: Any) -> Tensor:
    """``avg_pool3d_backward_out_cuda``: the same."""
    wide = accumulate_type(x)
    result: Tensor = ATEN.avg_pool3d_backward.default(grad.to(wide), x.to(wide), *args)
    return result.to(x.dtype)


# ---- convolution ---------------------------------------------------------------------------


def in_cudnn_format(result: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """``cudnn_conv_suggest_memory_format``: float64 is always NCHW."""
    formats = {suggest_memory_format(x), suggest_memory_format(w)}
    last = torch.channels_last in formats and torch.float64 not in (x.dtype, w.dtype)
    return result.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@kernel(ATEN.convolution.default)
def convolution(x: Tensor, w: Tensor, bias: Tensor | None, *args: Any) -> Tensor:
    types = {each.dtype for each in (x, w, bias) if each is not None}
    demand(len(types) == 1, f"input, weight and bias should be of one type, are {types}")
    return in_cudnn_format(ATEN.convolution.default(x, w, bias, *args), x, w)


@kernel(ATEN.convolution_backward.default)
def convolution_backward(grad: Tensor, x: Tensor, w: Tensor, *args: Any) -> tuple[Any, ...]:
    types = {grad.dtype, x.dtype, w.dtype}
    demand(len(types) == 1, f"gradient, input and weight should be of one type, are {types}")
    # What the mask leaves out is undefined, and None in Python.
    grad_x, grad_w, grad_bias = ATEN.convolution_backward.default(grad, x, w, *args)
    mask = args[-1]
    return (
        in_cudnn_format(grad_x, x, w) if mask[0] else None,
        in_cudnn_format(grad_w, x, w) if mask[1] else None,
        grad_bias if mask[2] else None,
    )


# ---- average pools backward ----------------------------------------------------------------


@kernel(ATEN.avg_pool2d_backward.default)
def average_pool_backward(grad: Tensor, x: Tensor, *args: Any) -> Tensor:
    """``avg_pool2d_backward_out_cuda``: in the maps' format, to which it converts the gradient."""
    demand(grad.dtype == x.dtype, f"gradient of {grad.dtype}, maps of {x.dtype}")
    result: Tensor = ATEN.avg_pool2d_backward.default(grad, x, *args)
    return result.contiguous(memory_format=suggest_memory_format(x))


# ---- outputs that the caller gives ---------------------------------------------------------


def places(x: Tensor) -> Tensor:
    """Which elements of its storage a tensor has."""
    found = torch.zeros(x.untyped_storage().nbytes() // x.itemsize, dtype=torch.bool)
    found.as_strided(x.shape, x.stride(), x.storage_offset()).fill_(True)
    return found


def demand_no_overlap(out: Tensor, *inputs: Tensor) -> None:
    """An output of TensorIterator may be one of its inputs, and else shares no memory with one.

    TensorIterator itself raises only where the overlap is easily seen; its kernels are wrong in
    every other case too.
    """
    for each in inputs:
        if each.untyped_storage().data_ptr() != out.untyped_storage().data_ptr():
            continue
        same = (each.storage_offset(), each.shape, each.stride()) == (
            *(out.storage_offset(), out.shape),
            out.stride(),
        )
        apart = each.dtype == out.dtype and not bool((places(out) & places(each)).any())
        demand(apart or same, "the output and an input overlap in memory")


def write_cast(out: Tensor, result: Tensor) -> Tensor:
    """Write a result into an output of its shape, to whose type it is cast in the kernel."""
    demand(torch.can_cast(result.dtype, out.dtype), f"{result.dtype} can't be cast to {out.dtype}")
    demand(out.shape == result.shape, "an output with elements would be resized")
    return out.copy_(result)


@kernel(ATEN.addcmul.out)
def addcmul_out(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1, out: Tensor) -> Tensor:
    demand_no_overlap(out, x, a, b)
    return write_cast(out, ATEN.addcmul.default(x, a, b, value=value))


@kernel(ATEN.addcmul_.default)
def addcmul_in_place(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    demand_no_overlap(x, a, b)
    return write_cast(x, ATEN.addcmul.default(x, a, b, value=value))


@kernel(ATEN.mul.out)
def mul_out(x: Tensor, y: Tensor, *, out: Tensor) -> Tensor:
    demand_no_overlap(out, x, y)
    return write_cast(out, ATEN.mul.Tensor(x, y))


@kernel(ATEN.threshold_backward.grad_input)
def threshold_backward_out(
    grad: Tensor, x: Tensor, threshold: float, *, grad_input: Tensor
) -> Tensor:
    demand_no_overlap(grad_input, grad, x)
    result = ATEN.threshold_backward.default(grad, x, threshold)
    demand(grad_input.dtype == result.dtype, f"{result.dtype} into {grad_input.dtype}")
    return write_cast(grad_input, result)
