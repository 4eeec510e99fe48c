"""What CUDA demands of each ATen operator that a generated model runs, as docs/cuda.md lists it."""

from __future__ import annotations

from typing import NamedTuple


class Contract(NamedTuple):
    """Of one operator.

    Attributes:
        source: where its CUDA kernel, or the code that selects one, stands in PyTorch's sources.
        demands: what the kernel requires of its arguments beyond shapes.
        direct: whether a generated file calls the operator itself, past autograd's own rules.
    """

    source: str
    demands: str
    direct: bool = False


_NORM = "aten/src/ATen/native/cuda/Normalization.cu"
_GROUP_NORM = "aten/src/ATen/native/group_norm.cpp"
_BLAS = "aten/src/ATen/native/cuda/Blas.cpp"
_CONV = "aten/src/ATen/native/ConvUtils.h"
_CONVOLUTION = (
    "input, weight and gradient of one type; cuDNN's result is channels_last where input or "
    "weight is, but for float64, which is NCHW"
)
_ITERATOR = "aten/src/ATen/TensorIterator.cpp"
_ELEMENTWISE = "any strides; types are promoted"
_REDUCTION = "any strides; half types are summed in float32"
_VIEW = "a view: no kernel runs"
_MEMORY = "allocates or copies; any strides and types"

CONTRACTS: dict[str, Contract] = {
    "native_batch_norm_backward.default": Contract(
        _NORM,
        "`save_mean` and `save_invstd` defined and of the accumulate type wherever maps are "
        "channels_last or no gradient of the maps is requested; running statistics, where given, "
        "of scale's type; the gradient of the maps' type",
        direct=True,
    ),
    "batch_norm_update_stats.default": Contract(
        _NORM,
        "returns moments of the accumulate type whatever the type of the running statistics; "
        "a batch of one element per channel divides by zero",
        direct=True,
    ),
    "convolution_backward.default": Contract(
        _CONV, f"{_CONVOLUTION}; what the mask leaves out is undefined", direct=True
    ),
    "threshold_backward.default": Contract(
        "aten/src/ATen/native/Activation.cpp", "gradient and maps of any strides", direct=True
    ),
    "threshold_backward.grad_input": Contract(
        "aten/src/ATen/native/Activation.cpp",
        "the output is the gradient itself or shares no memory with an input; of the result's type",
        direct=True,
    ),
    "addcmul.out": Contract(
        "aten/src/ATen/native/PointwiseOps.cpp",
        "the output, columns of a buffer too, is an input itself or shares no memory with one, and "
        "has the result's shape; a wider result is cast into it in the kernel",
        direct=True,
    ),
    "addcmul_.default": Contract(
        "aten/src/ATen/native/PointwiseOps.cpp",
        "columns of a buffer too, which share no memory with the factors; wider factors are "
        "multiplied in their type, and the sum is cast in the kernel",
        direct=True,
    ),
    "addcmul.default": Contract(
        "aten/src/ATen/native/PointwiseOps.cpp",
        "any strides; types are promoted; the result is of the widest",
        direct=True,
    ),
    "mul.out": Contract(
        _ITERATOR,
        "the output is an input itself or shares no memory with one, and has the result's shape; "
        "a wider result is cast into it in the kernel",
        direct=True,
    ),
    "avg_pool2d_backward.default": Contract(
        "aten/src/ATen/native/cuda/AveragePool2d.cu",
        "gradient and maps of one type, NCHW or channels_last; the result is in the maps' format",
        direct=True,
    ),
    **dict.fromkeys(
        ("cudnn_batch_norm.default", "cudnn_batch_norm_backward.default"),
        Contract(
            "aten/src/ATen/native/cudnn/BatchNorm.cpp",
            "chosen by PyTorch where it may be; scale, bias and statistics of one type, float32 "
            "for half maps; eps of 1e-5 or more",
        ),
    ),
    "native_batch_norm.default": Contract(
        _NORM,
        "scale and bias of one type, the maps' or the accumulate type (float32 for half types); "
        "what it saves is of the accumulate type; cuDNN may be chosen in its place",
    ),
    "native_group_norm.default": Contract(
        _GROUP_NORM,
        "maps, scale and bias of one type, which autocast on CUDA makes float32; any strides: the "
        "result is NCHW",
    ),
    "native_group_norm_backward.default": Contract(
        _GROUP_NORM, "gradient, maps, moments and scale of one type; the gradient is NCHW"
    ),
    "convolution.default": Contract(_CONV, _CONVOLUTION),
    "cat.default": Contract(
        "aten/src/ATen/native/TensorShape.cpp", "types are promoted; any strides"
    ),
    "max_pool2d_with_indices.default": Contract(
        "aten/src/ATen/native/cuda/DilatedMaxPool2d.cu", "NCHW or channels_last"
    ),
    "max_pool2d_with_indices_backward.default": Contract(
        "aten/src/ATen/native/cuda/DilatedMaxPool2d.cu",
        "the gradient of the maps' type; overlapping windows are added atomically in no fixed "
        "order",
    ),
    "avg_pool2d.default": Contract(
        "aten/src/ATen/native/cuda/AveragePool2d.cu", "NCHW or channels_last"
    ),
    **dict.fromkeys(
        ("avg_pool3d.default", "avg_pool3d_backward.default"),
        Contract(
            "aten/src/ATen/native/cuda/AveragePool3d.cu",
            "any strides: made contiguous; on CUDA half types too; overlapping windows are added "
            "atomically in no fixed order",
        ),
    ),
    "upsample_nearest2d.default": Contract(
        "aten/src/ATen/native/cuda/UpSampleNearest2d.cu", "NCHW or channels_last"
    ),
    "upsample_nearest2d_backward.default": Contract(
        "aten/src/ATen/native/cuda/UpSampleNearest2d.cu", "the gradient of the maps' type"
    ),
    "addmm.default": Contract(_BLAS, "matrices of one type"),
    "mm.default": Contract(_BLAS, "matrices of one type"),
    **dict.fromkeys(
        ("bernoulli_.float", "bernoulli.default"),
        Contract(
            "aten/src/ATen/native/cuda/DistributionBernoulli.cu",
            "floating types; a captured CUDA graph needs a registered generator",
        ),
    ),
    "rand.default": Contract(
        "aten/src/ATen/native/cuda/DistributionUniform.cu",
        "floating types; a captured CUDA graph needs a registered generator",
    ),
    "native_dropout.default": Contract(
        "aten/src/ATen/native/cuda/Dropout.cu", "floating types; the fused kernel of `nn.Dropout`"
    ),
    "native_dropout_backward.default": Contract(
        "aten/src/ATen/native/cuda/Dropout.cu", "the mask is Boolean"
    ),
    **dict.fromkeys(
        (
            *("add.Tensor", "add_.Tensor", "sub.Tensor", "sub_.Tensor"),
            *("mul.Tensor", "mul_.Tensor"),
            *("div.Tensor", "div.Scalar", "div_.Scalar", "neg.default", "rsqrt.default"),
            *("relu.default", "relu_.default", "sigmoid.default", "sigmoid_backward.default"),
            *("lerp_.Scalar", "lerp_.Tensor", "add.Scalar", "mul.Scalar", "pow.Tensor_Scalar"),
            *("eq.Tensor", "masked_fill_.Scalar", "masked_fill.Scalar", "ge.Tensor"),
            *("bitwise_or.Tensor", "clamp.default", "floor.default", "where.self"),
        ),
        Contract(_ITERATOR, _ELEMENTWISE),
    ),
    **dict.fromkeys(
        ("mean.dim", "sum.dim_IntList", "sum.default", "amax.default", "any.default"),
        Contract("aten/src/ATen/native/ReduceOps.cpp", _REDUCTION),
    ),
    **dict.fromkeys(
        (
            *(
                "select.int",
                "slice.Tensor",
                "split.Tensor",
                "split_with_sizes.default",
                "unbind.int",
                "view.default",
            ),
            *("unsqueeze.default", "squeeze.dim", "expand.default", "t.default", "alias.default"),
            *("squeeze.default", "detach.default", "permute.default", "_unsafe_view.default"),
        ),
        Contract("aten/src/ATen/native/TensorShape.cpp", _VIEW),
    ),
    **dict.fromkeys(
        (
            *("empty.memory_format", "empty_like.default", "new_empty.default", "stack.default"),
            *("new_empty_strided.default", "copy_.default", "constant_pad_nd.default"),
            *("_to_copy.default", "clone.default", "slice_backward.default", "ones_like.default"),
            *("zeros_like.default", "new_full.default", "zero_.default", "zeros.default"),
            *("ones.default", "arange.default", "new_zeros.default"),
        ),
        Contract("aten/src/ATen/native/TensorFactories.cpp", _MEMORY),
    ),
    "promote_types.default": Contract("aten/src/ATen/native/TypeProperties.cpp", "no kernel runs"),
}
"""By the operator's name and overload."""
