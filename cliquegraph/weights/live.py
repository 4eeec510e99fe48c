"""Weights of models in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import get_args

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.ir.names import param_name
from cliquegraph.ir.storage import Array, check_tensors, stored
from cliquegraph.plugins.backends import find_backend, installed
from cliquegraph.spec.load import Declaration, load
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.adapt import (
    Channels,
    Head,
    Sizes,
    adapted_weights,
    head_names,
    resized,
    sizes_of,
)
from cliquegraph.weights.formats import INFERENCE, formats
from cliquegraph.weights.layout import Format, to_layout
from cliquegraph.weights.read import read_weights
from cliquegraph.weights.source import LiveTensors
from cliquegraph.weights.tensors import native_arrays
from cliquegraph.weights.transfer import Reading


def load_weights(
    model: object,
    network: Declaration,
    weights: Mapping[str, Array] | str | os.PathLike[str],
    *,
    head: Head = "load",
    channels: Channels = "same",
) -> None:
    """Set every parameter and running statistic of a generated model.

    The model's types and devices do not change. A model compiled with ``--inference`` accepts the
    same tensors, which are folded first. The model may have another number of classes than the
    network (``num_classes``).

    Args:
        model: a generated PyTorch or Flax model, at any -O level.
        network: the network it was compiled from, as ``load`` takes it.
        weights: canonical tensors by name, or a file in any format.
        head: ``skip`` leaves the model's classifier as it is, and accepts weights for any number
            of classes; an image size and dropout that differ are accepted too.
        channels: ``adapt`` fits the first kernel of the weights to the images of the network:
            summed for one channel, else repeated and scaled. The network is the model's, with its
            own ``input.channels``.

    Raises:
        WeightsError: the weights or the model are not for this network; the model is unchanged.
        UsageError: it is not a model of an installed backend.
    """
    network = load(network)
    for word, known in ((head, get_args(Head)), (channels, get_args(Channels))):
        if word not in known:
            raise UsageError(f"there is no choice {word!r}; choose from {', '.join(known)}")
    if isinstance(weights, Mapping):
        weights = native_arrays(weights, "the weights")
    elif not isinstance(weights, str | os.PathLike):
        raise UsageError(
            "expected tensors by their canonical names, as cliquegraph.model_weights(model, "
            "network) returns them, or the path of a weights file; found "
            f"{describe_type(weights)}"
        )
    live, backend = _tensors_of(model)
    network = _of_model(network, live, backend)
    if head == "load" and channels == "same":
        tensors = _same_sizes(network, weights)
    else:
        tensors = adapted_weights(network, weights, head=head, channels=channels)
    skipped = head_names(Compilation(network).lowered) if head == "skip" else frozenset()
    check_tensors(Compilation(network).lowered, tensors, omitted=skipped)
    format = _format(network, live, backend)
    if format.option == INFERENCE:
        if skipped:
            raise WeightsError("a folded model can't be fine-tuned: compile without --inference")
        wide = {name: np.asarray(array, np.float64) for name, array in tensors.items()}
        tensors = Compilation(network, inference=True).folded(wide)
    # Compute all arrays first, so that an error does not leave the model partially set.
    arrays = {
        name: np.array(to_layout(format.layout, param, stored(param, tensors)))
        for name, param in format.params.items()
        if param_name(param) not in skipped
    }
    for name, array in arrays.items():
        live.write(name, array)


def model_weights(model: object, network: Declaration) -> dict[str, Array]:
    """Return the canonical tensors of a generated model, by name, in the model's types.

    The classifier has the model's number of classes, which may differ from the network's.

    Args:
        model: a generated PyTorch or Flax model, at any -O level.
        network: the network it was compiled from, as ``load`` takes it.

    Raises:
        WeightsError: the model is not for this network, or its normalizations are folded.
        UsageError: it is not a model of an installed backend.
    """
    live, backend = _tensors_of(model)
    format = _format(_of_model(load(network), live, backend), live, backend)
    if format.option == INFERENCE:
        raise WeightsError("the model's normalizations are folded, which can't be undone")
    return dict(Reading(live, format, "the model").items())


def _tensors_of(model: object) -> tuple[LiveTensors, str]:
    """A model's tensors, and the name of its backend."""
    for name in installed():
        live = find_backend(name).live(model)
        if live is not None:
            return live, name
    if isinstance(model, type):
        name = model.__name__
        raise UsageError(f"expected a model, found the class {name}: create one, {name}(…)")
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    known = ", ".join(installed()) or "none"
    raise UsageError(f"a {kind} is not a model of an installed backend ({known})")


def _of_model(network: NetworkSpec, live: LiveTensors, backend: str) -> NetworkSpec:
    """The network with the model's number of classes."""
    layout = find_backend(backend).layout
    sizes = sizes_of(Compilation(network).lowered, layout, live.infos)
    return resized(network, Sizes(sizes.classes, None))


def _same_sizes(
    network: NetworkSpec, weights: Mapping[str, Array] | str | os.PathLike[str]
) -> dict[str, Array]:
    """The tensors of weights for the model itself; an error names sizes that differ."""
    try:
        if not isinstance(weights, Mapping):
            return read_weights(network, weights)
        check_tensors(Compilation(network).lowered, weights)
        return dict(weights)
    except WeightsError:
        adapted_weights(network, weights)  # raises an error that says how to load them anyway
        raise


def _format(network: NetworkSpec, live: LiveTensors, backend: str) -> Format:
    """The format that a model's tensors match, at its -O level or folded."""
    candidates = (*formats(network, backend), *formats(network, backend, inference=True))
    infos = live.infos
    for each in candidates:
        if each.fits(infos):
            return each
    _require_channels(network, live, backend)
    nearest = max(candidates, key=lambda each: each.matching(infos))
    nearest.require(infos, "the model")
    return nearest


def _require_channels(network: NetworkSpec, live: LiveTensors, backend: str) -> None:
    """Name the way out if a model is the network's but for the channels of its images."""
    layout, infos = find_backend(backend).layout, live.infos
    channels = sizes_of(Compilation(network).lowered, layout, infos).channels
    theirs = resized(network, Sizes(None, channels))
    if theirs is not network and any(each.fits(infos) for each in formats(theirs, backend)):
        raise WeightsError(
            f"the model is for images of {channels} channels, but those of {network.name} have "
            f"{network.input.channels}: pass the network that it was compiled from, for example "
            f"cliquegraph.load({network.name!r}, ['input.channels={channels}', 'expect={{}}'])"
        )
