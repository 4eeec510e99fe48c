"""Weights into files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array, check_tensors
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, passes_of
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.formats import CANONICAL, INFERENCE, OFFICIAL, formats
from cliquegraph.weights.identity import DIGEST, SPEC
from cliquegraph.weights.layout import Format
from cliquegraph.weights.read import FORMAT, OPTION, open_weights
from cliquegraph.weights.source import numpy_dtype
from cliquegraph.weights.tensors import NewTensor, native_arrays, write_tensors
from cliquegraph.weights.transfer import Held, Weights, counter_metadata, new_tensors, one_type


@dataclass(frozen=True)
class Conversion:
    """What ``convert_weights`` did.

    Attributes:
        source, target: the formats.
        tensors: how many were written.
        size: bytes of the tensors.
        not_finite: those of the target that hold NaN or infinity.
    """

    source: Format
    target: Format
    tensors: int
    size: int
    not_finite: tuple[str, ...]


def convert_weights(
    network: NetworkSpec,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str,
    format: str | None = None,
    level: int | None = None,
    source_level: int | None = None,
    inference: bool = False,
    ignore_digest: bool = False,
) -> Conversion:
    """Write a network's weights in another format, one tensor after the other.

    Args:
        network: the network.
        source: the file to read.
        target: the safetensors file to write.
        to: the format to write.
        format: the format to read; default: what the file says, or what its tensors fit.
        level: the -O level of the model that the target is for; default: the compiler's.
        source_level: refuse a source of another level; default: as ``format``.
        inference: write what a model compiled with ``--inference`` takes.
        ignore_digest: take tensors that fit although the file is for another network.

    Raises:
        WeightsError: the file is damaged or is not for this network; says what differs.
        UsageError: the target can't be written.
    """
    chosen = _target(network, to, level, inference=inference)
    reading = open_weights(network, source, format, source_level, ignore_digest=ignore_digest)
    with reading as weights:
        bad: list[str] = []
        made = [_watched(each, bad) for each in _made(network, weights, chosen)]
        metadata = {**_metadata(network, chosen), **counter_metadata(weights)}
        write_tensors(Path(target), made, metadata)
        return Conversion(
            weights.format, chosen, len(made), sum(each.info.nbytes for each in made), tuple(bad)
        )


def write_weights(
    network: NetworkSpec,
    tensors: Mapping[str, Array],
    path: str | os.PathLike[str],
    format: str = CANONICAL,
    level: int | None = None,
) -> None:
    """Write canonical tensors to a safetensors file.

    Args:
        network: the network.
        tensors: every one of its canonical tensors, by name.
        path: the file.
        format: ``canonical``, or a backend's.
        level: the -O level that the backend's model is compiled with; default: the compiler's.

    Raises:
        WeightsError: ``tensors`` are not those of the network.
        UsageError: the file can't be written.
    """
    chosen = _target(network, format, level)
    native = native_arrays(tensors, "the weights")
    check_tensors(Compilation(network).lowered, native)
    made = new_tensors(Held(native, "the weights"), chosen)
    write_tensors(Path(path), made, _metadata(network, chosen))


def _target(
    network: NetworkSpec, name: str, level: int | None, *, inference: bool = False
) -> Format:
    """The format to write."""
    if name == OFFICIAL:
        raise UsageError("the authors' format is for reading; write canonical, or a backend's")
    if inference and name == CANONICAL:
        raise UsageError("canonical weights are not folded: --inference is for a backend's")
    if inference and level is not None:
        raise UsageError("--inference stands for a level of its own: leave out -O")
    level = DEFAULT_LEVEL if level is None else level
    passes_of(level)  # or there is no such level
    return formats(network, name, level, inference=inference)[0]


def _made(network: NetworkSpec, weights: Weights, target: Format) -> list[NewTensor]:
    if target.option != INFERENCE:
        return new_tensors(weights, target)
    dtype = one_type({weights.info(name).dtype: name for name in weights}, weights.place)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    folded = Compilation(network, inference=True).folded(wide)
    cast = {name: array.astype(numpy_dtype(dtype)) for name, array in folded.items()}
    return new_tensors(Held(cast, weights.place), target)


def _watched(tensor: NewTensor, bad: list[str]) -> NewTensor:
    """The same tensor; its name is noted when it holds what is no number."""

    def make() -> Array:
        array = tensor.make()
        if not np.isfinite(array).all():
            bad.append(tensor.name)
        return array

    return replace(tensor, make=make)


def _metadata(network: NetworkSpec, target: Format) -> dict[str, str]:
    spec = network.model_dump(mode="json", exclude={"expect"}, exclude_none=True)
    return {
        FORMAT: target.name,
        **({OPTION: target.option} if target.option else {}),
        DIGEST: Compilation(network).lowered.digest(),
        SPEC: json.dumps(spec, separators=(",", ":")),
    }
