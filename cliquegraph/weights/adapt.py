"""Weights for a network with another classifier, or for images of other channels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.ops import Conv
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Part, Tensor
from cliquegraph.passes.pipeline import DEFAULT_LEVEL
from cliquegraph.plugins.pickles import pickle_readers
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Expect
from cliquegraph.weights.formats import format_names, formats
from cliquegraph.weights.identity import differs_in_sizes_alone
from cliquegraph.weights.layout import Layout
from cliquegraph.weights.read import open_weights
from cliquegraph.weights.source import TensorInfo
from cliquegraph.weights.tensors import open_tensors

Head = Literal["load", "skip"]
"""Whether the classifier is loaded too."""

Channels = Literal["same", "adapt"]
"""Whether weights may be for images of another number of channels."""


@dataclass(frozen=True)
class Sizes:
    """What may differ between weights and a network: classes, and channels of the images.

    A number is None where it can't be determined.
    """

    classes: int | None
    channels: int | None


def head_names(graph: Graph) -> frozenset[str]:
    """Return the canonical names of the classifier's tensors."""
    return frozenset(
        tensor_name(tensor)
        for tensor in graph.tensors
        if tensor.slot.section.part is Part.CLASSIFIER
    )


def resized(network: NetworkSpec, sizes: Sizes) -> NetworkSpec:
    """Return a network with other numbers of classes and channels, without ``expect``."""
    classes = sizes.classes or network.classifier.classes
    channels = sizes.channels or network.input.channels
    if (classes, channels) == (network.classifier.classes, network.input.channels):
        return network
    changes = {
        "classifier": network.classifier.model_copy(update={"classes": classes}),
        "input": network.input.model_copy(update={"channels": channels}),
        "expect": Expect(),
    }
    return network.model_copy(update=changes)


def sizes_of(graph: Graph, layout: Layout, infos: Mapping[str, TensorInfo]) -> Sizes:
    """Return the sizes that tensors in a layout imply, where they have the expected names."""

    def size(tensor: Tensor | None, axis: int) -> int | None:
        param = next((p for p in graph.params if tensor in [x.tensor for x in p.pieces]), None)
        info = None if param is None else infos.get(layout.name(param))
        if param is None or info is None or len(info.shape) != len(param.shape):
            return None
        return info.shape[layout.axes(param).index(axis)]

    return Sizes(size(_head_weight(graph), 0), size(image_kernel(graph), 1))


def sizes_in(network: NetworkSpec, infos: Mapping[str, TensorInfo]) -> Sizes:
    """Return the sizes that a file's tensors imply, in the format whose names it shares most."""
    best, common = Sizes(None, None), 0
    for name in format_names():
        try:
            candidates = formats(network, name, DEFAULT_LEVEL)
        except WeightsError:  # the network does not have this format
            continue
        for each in candidates:
            shared = len(each.params.keys() & infos.keys())
            if shared > common:
                best, common = sizes_of(each.graph, each.layout, infos), shared
    return best


def file_sizes(network: NetworkSpec, path: Path) -> Sizes:
    """Return the sizes that a file's tensors imply.

    Raises:
        WeightsError: the file is damaged.
    """
    with open_tensors(path, pickle_readers()) as source:
        return sizes_in(network, source.infos)


def adapted_weights(
    network: NetworkSpec,
    weights: Mapping[str, Array] | str | os.PathLike[str],
    *,
    head: Head = "load",
    channels: Channels = "same",
) -> dict[str, Array]:
    """Return canonical tensors for a network from weights of another size.

    Args:
        network: the network that is to receive the weights.
        weights: canonical tensors by name, or a file in any format.
        head: ``skip`` leaves out the classifier, whatever its number of classes.
        channels: ``adapt`` fits the first kernel to the network's images, as timm does: summed
            over the channels for one, else repeated along them and scaled by the ratio of the
            numbers.

    Raises:
        WeightsError: the weights differ from the network's in anything else.
    """
    if isinstance(weights, Mapping):
        tensors = dict(weights)
        infos = {name: TensorInfo(each.dtype.name, each.shape) for name, each in tensors.items()}
        sizes = _sizes_of_tensors(network, infos)
        _require_sizes(network, sizes, "the weights", head, channels)
    else:
        tensors = _read(network, Path(weights), head, channels)
    graph = Compilation(network).lowered
    kernel = image_kernel(graph)
    if channels == "adapt" and kernel is not None and tensor_name(kernel) in tensors:
        name = tensor_name(kernel)
        tensors[name] = fit_channels(tensors[name], network.input.channels)
    if head == "skip":
        tensors = {name: each for name, each in tensors.items() if name not in head_names(graph)}
    return tensors


def fit_channels(kernel: Array, channels: int) -> Array:
    """Return a kernel OIHW for images of another number of channels, in its type."""
    had = kernel.shape[1]
    if had == channels:
        return kernel
    wide = kernel.astype(np.float64)
    if channels == 1:
        fitted = wide.sum(1, keepdims=True)
    else:
        repeated = np.tile(wide, (1, -(-channels // had), 1, 1))[:, :channels]
        fitted = repeated * (had / channels)
    fitted_array: Array = fitted.astype(kernel.dtype)
    return fitted_array


def require_classes(network: NetworkSpec, tensors: Mapping[str, Array], place: str) -> None:
    """Raise a ``WeightsError`` that names the way out if only the number of classes differs."""
    infos = {name: TensorInfo(each.dtype.name, each.shape) for name, each in tensors.items()}
    sizes = _sizes_of_tensors(network, infos)
    classes = network.classifier.classes
    if sizes.classes not in (None, classes):
        raise WeightsError(
            f"{place} are for {sizes.classes} classes, but {network.name} has {classes}: load the "
            f"spec with classifier.classes={sizes.classes}, as --set or in cliquegraph.load"
        )


def _read(network: NetworkSpec, path: Path, head: Head, channels: Channels) -> dict[str, Array]:
    with open_tensors(path, pickle_readers()) as source:
        sizes = sizes_in(network, source.infos)
        accepted = differs_in_sizes_alone(network, source, path)
    _require_sizes(network, sizes, str(path), head, channels)
    theirs = resized(network, sizes)
    with open_weights(theirs, path, ignore_digest=accepted) as found:
        return {name: np.array(found[name]) for name in found}


def _sizes_of_tensors(network: NetworkSpec, infos: Mapping[str, TensorInfo]) -> Sizes:
    (canonical,) = formats(network, "canonical")
    return sizes_of(canonical.graph, canonical.layout, infos)


def _require_sizes(
    network: NetworkSpec, sizes: Sizes, place: str, head: Head, channels: Channels
) -> None:
    classes, maps = network.classifier.classes, network.input.channels
    plural = "have" if place == "the weights" else "has"
    if head == "load" and sizes.classes not in (None, classes):
        raise WeightsError(
            f"{place} {plural} {sizes.classes} classes, but the model {classes}: head='skip' "
            "loads all but the classifier"
        )
    if channels == "same" and sizes.channels not in (None, maps):
        raise WeightsError(
            f"{place} {plural} a first kernel for {sizes.channels} channels, but the images of "
            f"{network.name} have {maps}: channels='adapt' fits it"
        )


def _head_weight(graph: Graph) -> Tensor | None:
    names = head_names(graph)
    return next((t for t in graph.tensors if tensor_name(t) in names and len(t.shape) > 1), None)


def image_kernel(graph: Graph) -> Tensor | None:
    """Return the kernel that reads the image, where one convolution alone does."""
    readers = [node for node in graph.nodes if graph.input in node.inputs]
    if len(readers) != 1 or not isinstance(readers[0].op, Conv) or readers[0].op.depthwise:
        return None
    tensors = [
        piece.tensor
        for operand in readers[0].operands
        for piece in operand.pieces
        if len(piece.tensor.shape) == 4
    ]
    return tensors[0] if len(tensors) == 1 else None
