"""Generated code of each op, in both backends, against plain definitions: values and gradients."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import Tensor, nn

from cliquegraph.emit.execute import load_source
from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field, Init, Param
from cliquegraph.weights.layout import canonical, turned
from cliquegraph_flax.execute import _array
from cliquegraph_flax.live import LiveModel as LiveFlax
from cliquegraph_flax.live import find_variable
from cliquegraph_flax.naming import FlaxLayout
from cliquegraph_torch.live import LiveModel as LiveTorch
from cliquegraph_torch.live import find_tensor
from cliquegraph_torch.naming import TorchLayout
from tests.backends.one_op import STEM, class_of, graph_of_ops, view_of

BATCH, CHANNELS = 3, 6
SIZE = (5, 7)
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
TOLERANCE = 1e-10

# ---- definitions ---------------------------------------------------------------------------

Definition = Callable[..., Tensor]


def windows(x: Tensor, kernel: int, stride: int, padding: int, fill: float) -> Tensor:
    """(batch, channels, height, width, kernel, kernel)."""
    padded = nn.functional.pad(x, (padding,) * 4, value=fill)
    return padded.unfold(2, kernel, stride).unfold(3, kernel, stride)


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1) -> Tensor:
    seen = windows(x, weight.shape[-1], stride, (weight.shape[-1] - 1) // 2, 0.0)
    y = torch.einsum("bchwij,fcij->bfhw", seen, weight)
    return y if bias is None else y + bias.view(1, -1, 1, 1)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1) -> Tensor:
    shifts = torch.zeros(len(weight)) if bias is None else bias
    each = [
        conv(x[:, c : c + 1], weight[c : c + 1], shifts[c : c + 1].to(x.dtype), stride=stride)
        for c in range(len(weight))
    ]
    return torch.cat(each, 1)


def group_norm(x: Tensor, scale: Tensor, bias: Tensor, *, groups: int, eps: float) -> Tensor:
    parts = []
    for part in x.split(x.shape[1] // groups, 1):
        centered = part - part.mean((1, 2, 3), keepdim=True)
        var = (centered**2).mean((1, 2, 3), keepdim=True)
        parts.append(centered / (var + eps).sqrt())
    return torch.cat(parts, 1) * scale.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def local_response(x: Tensor, *, size: int, alpha: float, beta: float) -> Tensor:
    outputs = []
    for c in range(x.shape[1]):
        near = x[:, max(c - size // 2, 0) : c + (size - 1) // 2 + 1]
        outputs.append(x[:, c] / (1 + alpha / size * (near**2).sum(1)) ** beta)
    return torch.stack(outputs, 1)


def global_max(x: Tensor) -> Tensor:
    """The first element that reaches the maximum."""
    flat = x.flatten(2)
    return flat.gather(2, flat.argmax(2, keepdim=True))[..., 0]


def upsample(x: Tensor, *, factor: int) -> Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def zeros(x: Tensor, *, op: ops.Zeros) -> Tensor:
    seen = windows(x, op.kernel, op.stride, op.padding, 0.0)
    return torch.zeros(len(x), op.filters, *seen.shape[2:4], dtype=x.dtype) + 0 * x.sum()


def max_pool(x: Tensor, *, op: ops.MaxPool) -> Tensor:
    """The first of equal maxima has the gradient."""
    return windows(x, op.kernel, op.stride, op.padding, -float("inf")).flatten(4).max(4).values


EVERY: dict[str, tuple[ops.Op, Definition]] = {
    "conv": (ops.Conv(4, 3), conv),
    "conv_with_bias": (ops.Conv(4, 3, 2, bias=True), partial(conv, stride=2)),
    "depthwise": (ops.Conv(CHANNELS, 3, depthwise=True), depthwise),
    "depthwise_of_stride_2": (
        ops.Conv(CHANNELS, 5, 2, depthwise=True),
        partial(depthwise, stride=2),
    ),
    "depthwise_with_bias": (
        ops.Conv(CHANNELS, 3, 2, bias=True, depthwise=True),
        partial(depthwise, stride=2),
    ),
    "group_norm": (ops.GroupNorm(3), partial(group_norm, groups=3, eps=1e-5)),
    "layer_norm": (ops.GroupNorm(1, eps=0.1), partial(group_norm, groups=1, eps=0.1)),
    "instance_norm": (ops.GroupNorm(CHANNELS), partial(group_norm, groups=CHANNELS, eps=1e-5)),
    "bias": (ops.Bias(), lambda x, bias: x + bias.view(1, -1, 1, 1)),
    "gate": (ops.Gate(), lambda x, weight: x / (1 + torch.exp(-weight))),
    "local_response": (
        ops.LocalResponse(3, 0.7, 0.75),
        partial(local_response, size=3, alpha=0.7, beta=0.75),
    ),
    "even_local_response": (
        ops.LocalResponse(4, 1.0, 0.5),
        partial(local_response, size=4, alpha=1.0, beta=0.5),
    ),
    "wide_local_response": (
        ops.LocalResponse(13, 1e-3, 2.0),
        partial(local_response, size=13, alpha=1e-3, beta=2.0),
    ),
    "global_mean": (ops.GlobalMean(), lambda x: x.sum((2, 3), keepdim=True) / x[0, 0].numel()),
    "global_max_pool": (ops.GlobalMaxPool(), global_max),
    "upsample": (ops.Upsample(3), partial(upsample, factor=3)),
    "upsample_by_1": (ops.Upsample(1), partial(upsample, factor=1)),
    **{
        f"zeros_{op.kernel}_{op.stride}_{op.padding}": (op, partial(zeros, op=op))
        for op in (ops.Zeros(2), ops.Zeros(5, 3, 2, 1), ops.Zeros(9, 2, 2))
    },
    **{
        f"max_pool_{op.kernel}_{op.stride}_{op.padding}": (op, partial(max_pool, op=op))
        for op in (ops.MaxPool(3, 2, 1), ops.MaxPool(3, 1, 0), ops.MaxPool(2, 2, 1))
    },
}

SHARED = ("conv", "depthwise", "depthwise_of_stride_2", "group_norm", "bias", "gate")
"""Those whose tensors the stages of a block may share."""


def case(name: str, shared: bool = False) -> tuple[Graph, Definition]:
    op, definition = EVERY[name]
    return graph_of_ops(op, channels=CHANNELS, size=SIZE, shared=shared), definition


def stem_params(graph: Graph) -> list[Param]:
    """The parameters of the op, in the order of its fields."""
    return [param for param in graph.params if param.slot.section == STEM]


def drawn(graph: Graph, ties: bool = False) -> tuple[Array, list[Array]]:
    """Images and tensors; with ``ties``, maps with several equal maxima, and one of zeros."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, CHANNELS, *SIZE))
    if ties:
        images = np.maximum(np.round(images), 0)
        images[0, 0] = 0
    return images, [rng.normal(size=param.shape) for param in stem_params(graph)]


def slopes_of(y: Array) -> Array:
    """The gradient of a result, different in each element."""
    return np.cos(np.arange(y.size, dtype=np.float64)).reshape(y.shape)


def expected(definition: Definition, images: Array, tensors: list[Array]) -> list[Array]:
    """The result of a definition, and the gradients of images and tensors."""
    leaves = [torch.from_numpy(each).clone().requires_grad_() for each in (images, *tensors)]
    y = definition(*leaves)
    y.backward(torch.from_numpy(slopes_of(y.detach().numpy())))
    assert all(leaf.grad is not None for leaf in leaves)
    return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves if leaf.grad is not None)]


def assert_near(results: list[Array], right: list[Array]) -> None:
    assert len(results) == len(right)
    for result, reference in zip(results, right, strict=True):
        assert result.shape == reference.shape
        assert np.abs(result - reference).max() < TOLERANCE * max(1, np.abs(reference).max())


# ---- PyTorch -------------------------------------------------------------------------------


def torch_model(graph: Graph, tensors: list[Array], dtype: torch.dtype = torch.float64) -> Any:
    model = class_of(graph, "torch")().to(dtype)
    with torch.no_grad():
        for param, array in zip(stem_params(graph), tensors, strict=True):
            find_tensor(model, TorchLayout().name(param)).copy_(torch.from_numpy(array))
    return model


def run_torch(graph: Graph, images: Array, tensors: list[Array], layout: str) -> list[Array]:
    model = torch_model(graph, tensors).to(memory_format=FORMATS[layout])
    x = torch.from_numpy(images).clone().contiguous(memory_format=FORMATS[layout])
    x.requires_grad_()
    (y,) = model.forward_features(x)
    if y.dim() == 4 and y.shape[1] > 1:
        assert y.is_contiguous(memory_format=FORMATS[layout])
    params = [find_tensor(model, TorchLayout().name(param)) for param in stem_params(graph)]
    if y.requires_grad:
        y.backward(torch.from_numpy(slopes_of(y.detach().numpy())))
    leaves = [torch.zeros_like(each) if each.grad is None else each.grad for each in (x, *params)]
    return [each.detach().numpy() for each in (y, *leaves)]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", EVERY)
def test_torch_computes_the_definition(name: str, layout: str) -> None:
    graph, definition = case(name)
    images, tensors = drawn(graph)
    right = expected(definition, images, tensors)
    assert_near(run_torch(graph, images, tensors, layout), right)


@pytest.mark.parametrize("name", SHARED)
def test_torch_passes_shared_tensors_to_an_update(name: str) -> None:
    graph, definition = case(name, shared=True)
    images, tensors = drawn(graph)
    right = expected(definition, images, tensors)
    assert_near(run_torch(graph, images, tensors, "nchw"), right)


# ---- JAX -----------------------------------------------------------------------------------


def flax_model(graph: Graph, tensors: list[Array], **types: str) -> Any:
    model = class_of(graph, "flax")(rngs=nnx.Rngs(0), **types)
    live, layout = LiveFlax(model), FlaxLayout()
    for param, array in zip(stem_params(graph), tensors, strict=True):
        live.write(layout.name(param), turned(layout, param, array))
    return model


def channels_first(array: Any) -> Array:
    return np.moveaxis(_array(array), -1, 1) if array.ndim == 4 else _array(array)


def run_flax(graph: Graph, images: Array, tensors: list[Array]) -> list[Array]:
    layout = FlaxLayout()
    with jax.enable_x64(True):
        model = flax_model(graph, tensors, dtype="float64", param_dtype="float64")
        definition, state = nnx.split(model)

        def features(x: jax.Array, state: Any) -> jax.Array:
            (y,) = nnx.merge(definition, state, copy=True).forward_features(x)
            return y

        y, pull = jax.vjp(features, jnp.asarray(np.moveaxis(images, 1, -1)), state)
        slopes = slopes_of(channels_first(y))
        if y.ndim == 4:
            slopes = np.moveaxis(slopes, 1, -1)
        grad_x, grads = pull(jnp.asarray(slopes))
        nnx.update(model, grads)
        gradients = [
            canonical(layout, param, _array(find_variable(model, layout.name(param))[...]))
            for param in stem_params(graph)
        ]
    return [channels_first(y), channels_first(grad_x), *gradients]


@pytest.mark.parametrize("name", EVERY)
def test_flax_computes_the_definition(name: str) -> None:
    graph, definition = case(name)
    images, tensors = drawn(graph)
    assert_near(run_flax(graph, images, tensors), expected(definition, images, tensors))


@pytest.mark.parametrize("name", SHARED)
def test_flax_passes_shared_tensors_to_an_update(name: str) -> None:
    graph, definition = case(name, shared=True)
    images, tensors = drawn(graph)
    assert_near(run_flax(graph, images, tensors), expected(definition, images, tensors))


# ---- somebody else's backend ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shared"),
    [*((name, False) for name in EVERY), *((name, True) for name in SHARED)],
)
def test_a_third_backend_computes_the_definition(
    name: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "third_backend")
    backend = importlib.import_module("cliquegraph_numpy").BACKEND
    graph, definition = case(name, shared)
    images, tensors = drawn(graph)
    model = load_source(backend.write(view_of(graph)), "one_op").OneOp()
    for param, array in zip(stem_params(graph), tensors, strict=True):
        *path, attribute = backend.layout.name(param).split(".")
        owner = reduce(getattr, path, model)
        assert getattr(owner, attribute).shape == array.shape
        setattr(owner, attribute, array)
    (y,) = model.forward_features(images)
    assert_near([y], expected(definition, images, tensors)[:1])


# ---- ties ----------------------------------------------------------------------------------


def test_of_equal_global_maxima_the_first_has_the_gradient() -> None:
    graph, definition = case("global_max_pool")
    images, tensors = drawn(graph, ties=True)
    right = expected(definition, images, tensors)
    assert_near(run_torch(graph, images, tensors, "nchw"), right)
    assert_near(run_flax(graph, images, tensors), right)


# ---- half types ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["maps", "whole"])
@pytest.mark.parametrize("name", EVERY)
def test_flax_computes_in_the_type_of_the_maps(name: str, how: str) -> None:
    graph, definition = case(name)
    images, tensors = drawn(graph)
    stored = {"maps": "float32", "whole": "bfloat16"}[how]
    model = flax_model(graph, tensors, dtype="bfloat16", param_dtype=stored)
    (y,) = model.forward_features(jnp.asarray(np.moveaxis(images, 1, -1), jnp.float32))
    assert y.dtype == jnp.bfloat16
    right, *_ = expected(definition, images, tensors)
    error = channels_first(y.astype(jnp.float32)) - right
    assert np.linalg.norm(error) <= 0.02 * np.linalg.norm(right)


NARROW = {"conv", "conv_with_bias", "depthwise", "depthwise_of_stride_2", "depthwise_with_bias"}
"""What autocast computes in the half type, whatever the maps' own."""
WIDE = {"bias", "gate", *(name for name in EVERY if "local_response" in name)}
"""What is of the parameters' type under autocast, or of float32, as in any PyTorch model."""


@pytest.mark.parametrize("name", sorted({*SHARED, *NARROW, *WIDE, "upsample", "zeros_3_2_1"}))
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_torch_has_the_types_of_a_model_by_hand_under_autocast(name: str, shared: bool) -> None:
    if shared and name not in SHARED:
        pytest.skip("it has no tensors that stages share")
    graph, _ = case(name, shared)
    images, tensors = drawn(graph)
    model = torch_model(graph, tensors, torch.float32)
    x = torch.from_numpy(images).float()
    for maps in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            (y,) = model.forward_features(maps)
        wide = torch.float32 if name in WIDE else maps.dtype
        assert y.dtype == (torch.bfloat16 if name in NARROW else wide)


# ---- initialization ------------------------------------------------------------------------

STARTS = {
    "depthwise": ops.Conv(512, 3, depthwise=True),
    "depthwise_with_bias": ops.Conv(512, 3, bias=True, depthwise=True),
    "with_bias": ops.Conv(96, 3, bias=True),
}


@pytest.mark.parametrize("init", [Init.HE, Init.HE_FAN_OUT])
@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
def test_kernels_start_as_declared_and_biases_at_0(
    backend: str, name: str, init: Init, beside: bool
) -> None:
    op = STARTS[name]
    channels = 512 if op.depthwise else 48
    others = (ops.Conv(channels, 1),) if beside else ()
    graph = graph_of_ops(*others, op, channels=channels, init={Field.WEIGHT: init})
    layout = {"torch": TorchLayout(), "flax": FlaxLayout()}[backend]
    live: Any
    if backend == "torch":
        torch.manual_seed(0)
        live = LiveTorch(class_of(graph, "torch")())
    else:
        live = LiveFlax(class_of(graph, "flax")(rngs=nnx.Rngs(0)))
    weight, *bias = (
        canonical(layout, param, live.read(layout.name(param)))
        for param in stem_params(graph)[len(others) :]
    )
    assert weight.shape == (op.filters, 1 if op.depthwise else channels, 3, 3)
    fan = weight.shape[1] if init is Init.HE else op.filters
    assert weight.std() == pytest.approx((2 / (9 * fan)) ** 0.5, rel=0.05)
    assert not any(each.any() for each in bias)
    assert len(bias) == op.bias


def test_gates_biases_and_group_norms_start_as_declared() -> None:
    graph = graph_of_ops(ops.Bias(), ops.Gate(), ops.GroupNorm(3), channels=CHANNELS)
    torch_live = LiveTorch(class_of(graph, "torch")())
    flax_live = LiveFlax(class_of(graph, "flax")(rngs=nnx.Rngs(0)))
    for param in stem_params(graph):
        start = 1.0 if param.field is Field.SCALE else 0.0
        for live, layout in ((torch_live, TorchLayout()), (flax_live, FlaxLayout())):
            array = live.read(layout.name(param))
            assert array.shape == param.shape
            assert (array == start).all()
