"""Weights of models in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.ir.storage import Array, check_tensors, stored
from cliquegraph.plugins.backends import find_backend, installed
from cliquegraph.spec.load import Declaration, load
from cliquegraph.spec.network import NetworkSpec
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
) -> None:
    """Set every parameter and running statistic of a generated model.

    The model's types and devices do not change. A model compiled with ``--inference`` accepts the
    same tensors, which are folded first.

    Args:
        model: a generated PyTorch or Flax model, at any -O level.
        network: the network it was compiled from, as ``load`` takes it.
        weights: canonical tensors by name, or a file in any format.

    Raises:
        WeightsError: the weights or the model are not for this network; the model is unchanged.
        UsageError: it is not a model of an installed backend.
    """
    network = load(network)
    tensors: Mapping[str, Array]
    if isinstance(weights, Mapping):
        tensors = native_arrays(weights, "the weights")
    else:
        tensors = read_weights(network, weights)
    check_tensors(Compilation(network).lowered, tensors)
    live, format = _live(model, network)
    if format.option == INFERENCE:
        wide = {name: np.asarray(array, np.float64) for name, array in tensors.items()}
        tensors = Compilation(network, inference=True).folded(wide)
    # Compute all arrays first, so that an error does not leave the model partially set.
    arrays = {
        name: np.array(to_layout(format.layout, param, stored(param, tensors)))
        for name, param in format.params.items()
    }
    for name, array in arrays.items():
        live.write(name, array)


def model_weights(model: object, network: Declaration) -> dict[str, Array]:
    """Return the canonical tensors of a generated model, by name, in the model's types.

    Raises:
        WeightsError: the model is not for this network, or its normalizations are folded.
        UsageError: it is not a model of an installed backend.
    """
    live, format = _live(model, load(network))
    if format.option == INFERENCE:
        raise WeightsError("the model's normalizations are folded, which can't be undone")
    return dict(Reading(live, format, "the model").items())


def _live(model: object, network: NetworkSpec) -> tuple[LiveTensors, Format]:
    """A model's tensors, and their format."""
    for name in installed():
        live = find_backend(name).live(model)
        if live is not None:
            candidates = (*formats(network, name), *formats(network, name, inference=True))
            infos = live.infos
            fitting = [each for each in candidates if each.fits(infos)]
            if not fitting:
                candidates[0].require(infos, "the model")
            return live, fitting[0]
    if isinstance(model, type):
        name = model.__name__
        raise UsageError(f"expected a model, found the class {name}: create one, {name}(…)")
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    known = ", ".join(installed()) or "none"
    raise UsageError(f"a {kind} is not a model of an installed backend ({known})")
