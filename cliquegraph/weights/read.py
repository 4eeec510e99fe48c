"""Reading of weights files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import installed
from cliquegraph.plugins.pickles import pickle_readers
from cliquegraph.spec.load import Declaration, load
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.formats import CANONICAL, INFERENCE, OFFICIAL, format_names, formats
from cliquegraph.weights.identity import require_implied, require_network
from cliquegraph.weights.layout import Format
from cliquegraph.weights.source import TensorSource
from cliquegraph.weights.tensors import model_names, open_tensors, stored_names
from cliquegraph.weights.transfer import Reading

FORMAT = "cliquegraph.format"
OPTION = "cliquegraph.option"


@contextmanager
def open_weights(
    network: Declaration,
    path: str | os.PathLike[str],
    format: str | None = None,
    level: int | None = None,
    *,
    ignore_digest: bool = False,
) -> Iterator[Reading]:
    """Open a file of a network's weights; yields its canonical tensors, each read on access.

    Args:
        network: whatever ``load`` takes.
        path: a safetensors file, or one written by ``torch.save``.
        format: its format; default: from its metadata, or inferred from its tensors.
        level: the -O level of a backend's model; default: as for ``format``.
        ignore_digest: accept matching tensors from a file for another network.

    Raises:
        WeightsError: the file is damaged or not for this network; lists the differences.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"expected the path of a weights file, found {describe_type(path)}")
    network, path = load(network), Path(path)
    with open_tensors(path, pickle_readers()) as source:
        if not ignore_digest:
            require_network(network, source, path)
        file_format = _format_in(network, source, path, format, level)
        if file_format.name == OFFICIAL and not ignore_digest:
            require_implied(network, source, path)
        yield Reading(source, file_format, str(path))


def read_weights(
    network: Declaration,
    path: str | os.PathLike[str],
    format: str | None = None,
    level: int | None = None,
) -> dict[str, Array]:
    """Return the canonical tensors in a file, by name.

    Args:
        network: whatever ``load`` takes.
        path: a safetensors file, or one written by ``torch.save``.
        format: its format; default: from its metadata, or inferred from its tensors.
        level: the -O level of a backend's model; default: as for ``format``.

    Raises:
        WeightsError: the file is damaged or not for this network; lists the differences.
    """
    with open_weights(network, path, format, level) as weights:
        return {name: np.array(weights[name]) for name in weights}


def _format_in(
    network: NetworkSpec, source: TensorSource, path: Path, name: str | None, level: int | None
) -> Format:
    """The format of a file: as requested, from its metadata, or inferred from its tensors."""
    declared = source.metadata.get(FORMAT)
    if declared is not None and name is not None and declared != name:
        raise WeightsError(f"{path} is declared to be in format {declared}, not {name}")
    if source.metadata.get(OPTION) == INFERENCE:
        raise _folded(path)
    if name is None and declared is None:
        return _fitting(network, source, path)
    candidates = formats(network, name or declared or CANONICAL)
    option = source.metadata.get(OPTION) if level is None else f"-O{level}"
    requested = [each for each in candidates if each.option == option]
    fitting = [each for each in candidates if each.fits(source.infos)]
    if level is not None and candidates[0].option and not requested:
        formats(network, candidates[0].name, level)  # raises an error that lists the levels
    if level is not None and requested and fitting and requested[0] not in fitting:
        raise WeightsError(
            f"{path} is not for a model compiled with {option}; it fits {fitting[0].option}"
        )
    return next(iter((*requested, *fitting, *candidates)))


def _folded(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} holds folded normalizations, which can't be undone; convert the weights that it "
        "was folded from"
    )


def _fitting(network: NetworkSpec, source: TensorSource, path: Path) -> Format:
    """The format that the tensors match, else the one with the most names in common."""
    nearest, common = None, (0, 0)
    for name in format_names():
        try:
            candidates = formats(network, name)
        except WeightsError:  # the network does not have this format
            continue
        for each in candidates:
            if each.fits(source.infos):
                return each
            names = len(each.params.keys() & source.infos.keys())
            shared = names, each.matching(source.infos)
            if shared > common:
                nearest, common = each, shared
    for name in installed():
        if formats(network, name, inference=True)[0].fits(source.infos):
            raise _folded(path)
    _require_one_model(network, source, path)
    if nearest is None:
        raise WeightsError(f"{path} holds no tensors of {network.name} in any format")
    return nearest


def _require_one_model(network: NetworkSpec, source: TensorSource, path: Path) -> None:
    """Refuse a file with several models, as of a Lightning module that also averages its model."""
    parts: dict[str, list[str]] = {}
    for name in stored_names(source):
        first, _, rest = name.partition(".")
        parts.setdefault(first, []).append(rest)
    inside = {first: model_names(filter(None, names)).keys() for first, names in parts.items()}
    for format in installed():
        for each in formats(network, format):
            complete = [first for first, names in inside.items() if each.params.keys() <= names]
            if len(complete) > 1:
                listed = " and ".join(f"{first}." for first in complete)
                raise WeightsError(
                    f"{path} holds several models of {network.name}, under {listed}: store one, "
                    f"by torch.save({{name.removeprefix({complete[0] + '.'!r}): tensor for name, "
                    f"tensor in state.items() if name.startswith({complete[0] + '.'!r})}}, FILE)"
                )
