"""Weights from files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import installed
from cliquegraph.plugins.pickles import pickle_readers
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.formats import CANONICAL, INFERENCE, OFFICIAL, format_names, formats
from cliquegraph.weights.identity import require_implied, require_network
from cliquegraph.weights.layout import Format
from cliquegraph.weights.source import TensorSource
from cliquegraph.weights.tensors import open_tensors
from cliquegraph.weights.transfer import Reading

FORMAT = "cliquegraph.format"
OPTION = "cliquegraph.option"


@contextmanager
def open_weights(
    network: NetworkSpec,
    path: str | os.PathLike[str],
    format: str | None = None,
    level: int | None = None,
    *,
    ignore_digest: bool = False,
) -> Iterator[Reading]:
    """Open a file of a network's weights; yields its canonical tensors, each read when asked for.

    Args:
        network: the network.
        path: a safetensors file, or one that ``torch.save`` wrote.
        format: its format; default: what the file says, or what its tensors fit.
        level: the -O level of a backend's model; default: likewise.
        ignore_digest: take tensors that fit although the file is for another network.

    Raises:
        WeightsError: the file is damaged or is not for this network; says what differs.
    """
    path = Path(path)
    with open_tensors(path, pickle_readers()) as source:
        if not ignore_digest:
            require_network(network, source, path)
        found = _format_in(network, source, path, format, level)
        if found.name == OFFICIAL and not ignore_digest:
            require_implied(network, source, path)
        yield Reading(source, found, str(path))


def read_weights(
    network: NetworkSpec,
    path: str | os.PathLike[str],
    format: str | None = None,
    level: int | None = None,
) -> dict[str, Array]:
    """Return the canonical tensors that a file holds, by name; arguments as ``open_weights``.

    Raises:
        WeightsError: the file is damaged or is not for this network; says what differs.
    """
    with open_weights(network, path, format, level) as weights:
        return {name: np.array(weights[name]) for name in weights}


def _format_in(
    network: NetworkSpec, source: TensorSource, path: Path, name: str | None, level: int | None
) -> Format:
    """The format of a file: as asked for, as it says, or the one that its tensors fit."""
    said = source.metadata.get(FORMAT)
    if said is not None and name is not None and said != name:
        raise WeightsError(f"{path} says that its format is {said}, not {name}")
    if source.metadata.get(OPTION) == INFERENCE:
        raise _folded(path)
    if name is None and said is None:
        return _fitting(network, source, path)
    candidates = formats(network, name or said or CANONICAL)
    stated = source.metadata.get(OPTION) if level is None else f"-O{level}"
    asked = [each for each in candidates if each.option == stated]
    fitting = [each for each in candidates if each.fits(source.infos)]
    if level is not None and candidates[0].option and not asked:
        formats(network, candidates[0].name, level)  # says which levels there are
    if level is not None and asked and fitting and asked[0] not in fitting:
        raise WeightsError(
            f"{path} is not of a model compiled with {stated}, but fits {fitting[0].option}"
        )
    return next(iter((*asked, *fitting, *candidates)))


def _folded(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} holds folded normalisations, which can't be undone; convert the weights that it "
        "was folded from"
    )


def _fitting(network: NetworkSpec, source: TensorSource, path: Path) -> Format:
    """The format that the tensors fit, else the one that they have most names of."""
    nearest, common = None, 0
    for name in format_names():
        try:
            candidates = formats(network, name)
        except WeightsError:  # not of that form
            continue
        for each in candidates:
            if each.fits(source.infos):
                return each
            shared = len(each.params.keys() & source.infos.keys())
            if shared > common:
                nearest, common = each, shared
    for name in installed():
        if formats(network, name, inference=True)[0].fits(source.infos):
            raise _folded(path)
    if nearest is None:
        raise WeightsError(f"{path} holds no tensor of {network.name} in any format")
    return nearest
