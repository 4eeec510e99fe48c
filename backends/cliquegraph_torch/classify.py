"""Runs generated PyTorch models, in evaluation, and builds those that are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cliquegraph.compiler import Compilation
from cliquegraph.data import Images
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.engines import Classify
from cliquegraph.training.job import Precision
from cliquegraph.weights import load_weights


def classifier(
    compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
) -> Classify:
    """Return a network that classifies images, on a GPU if there is one."""
    source = compilation.source(find_backend("torch"))
    gpus = torch.cuda.is_available()
    memory_format = memory_format_of(gpus)
    model = model_of(source, compilation.network.python_class, precision, memory_format)
    load_weights(model, compilation.network, tensors)
    device = torch.device("cuda" if gpus else "cpu")
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    model.to(device).eval()

    def classify(images: Images) -> Array:
        batch = torch.from_numpy(images).to(device, _dtype(precision))
        batch = batch.to(memory_format=memory_format)
        mixed = torch.autocast(device.type, low, low is not None)
        with torch.inference_mode(), mixed, cudnn_benchmark(gpus or None):
            return to_array(model(batch))

    return classify


def model_of(
    source: str, class_name: str, precision: Precision, memory_format: torch.memory_format
) -> nn.Module:
    """Return the model that a source defines, with weights of the precision's type."""
    module = load_source(source, f"cliquegraph_trained_{class_name}")
    model: nn.Module = getattr(module, class_name)()
    model.to(memory_format=memory_format)  # type: ignore[call-overload]  # not in its stubs
    return model.to(_dtype(precision))  # before weights are set, in the model's type


def memory_format_of(channels_last: bool) -> torch.memory_format:
    """Return PyTorch's memory format."""
    return torch.channels_last if channels_last else torch.contiguous_format


@contextmanager
def cudnn_benchmark(enabled: bool | None) -> Iterator[None]:
    """Set whether cuDNN benchmarks its algorithms, in the whole process; None leaves it."""
    before = torch.backends.cudnn.benchmark
    if enabled is not None:
        torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def to_array(tensor: Tensor) -> Array:
    """Return a tensor as an array, float32 or wider."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to("cpu", wide).numpy()


def _dtype(precision: Precision) -> torch.dtype:
    """The type of weights."""
    return torch.float64 if precision == "float64" else torch.float32
