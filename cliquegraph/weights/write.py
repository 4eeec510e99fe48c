"""Writing of weights files."""

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
from cliquegraph.spec.load import Declaration, load
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.adapt import require_classes
from cliquegraph.weights.formats import CANONICAL, INFERENCE, OFFICIAL, formats
from cliquegraph.weights.identity import DIGEST, SPEC
from cliquegraph.weights.layout import Format
from cliquegraph.weights.read import FORMAT, OPTION, open_weights
from cliquegraph.weights.source import numpy_dtype
from cliquegraph.weights.tensors import NewTensor, native_arrays, write_tensors
from cliquegraph.weights.transfer import (
    LoadedWeights,
    Weights,
    counter_metadata,
    new_tensors,
    one_type,
)


@dataclass(frozen=True)
class Conversion:
    """The result of ``convert_weights``.

    Attributes:
        source, target: the formats.
        tensors: number of tensors written.
        size: of the tensors, in bytes.
        not_finite: names of target tensors that hold NaN or infinity.
    """

    source: Format
    target: Format
    tensors: int
    size: int
    not_finite: tuple[str, ...]


def convert_weights(
    network: Declaration,
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
    """Write a network's weights in another format, one tensor at a time.

    Args:
        network: whatever ``load`` takes.
        source: the file to read.
        target: the safetensors file to write.
        to: the format to write.
        format: the format to read; default: from the metadata, or inferred from the tensors.
        level: the -O level of the model that the target is for; default: the compiler's.
        source_level: reject a source for another level; default: as for ``format``.
        inference: write the weights of a model compiled with ``--inference``.
        ignore_digest: accept matching tensors from a file for another network.

    Raises:
        WeightsError: the file is damaged or not for this network; lists the differences.
        UsageError: the target can't be written.
    """
    network = load(network)
    chosen = _target(network, to, level, inference=inference)
    reading = open_weights(network, source, format, source_level, ignore_digest=ignore_digest)
    with reading as weights:
        bad: list[str] = []
        new = [_record_non_finite(t, bad) for t in _new_tensors(network, weights, chosen)]
        metadata = {**_metadata(network, chosen), **counter_metadata(weights)}
        write_tensors(Path(target), new, metadata)
        return Conversion(
            weights.format, chosen, len(new), sum(each.info.nbytes for each in new), tuple(bad)
        )


def write_weights(
    network: Declaration,
    tensors: Mapping[str, Array],
    path: str | os.PathLike[str],
    format: str = CANONICAL,
    level: int | None = None,
) -> None:
    """Write canonical tensors to a safetensors file.

    Args:
        network: whatever ``load`` takes.
        tensors: all of its canonical tensors, by name.
        path: the file.
        format: ``canonical``, or a backend's.
        level: the -O level at which the backend's model is compiled; default: the compiler's.

    Raises:
        WeightsError: ``tensors`` do not match the network.
        UsageError: the file can't be written.
    """
    network = load(network)
    chosen = _target(network, format, level)
    native = native_arrays(tensors, "the weights")
    require_classes(network, native, "the weights")
    check_tensors(Compilation(network).lowered, native)
    new = new_tensors(LoadedWeights(native, "the weights"), chosen)
    write_tensors(Path(path), new, _metadata(network, chosen))


def _target(
    network: NetworkSpec, name: str, level: int | None, *, inference: bool = False
) -> Format:
    """The format to write."""
    if name == OFFICIAL:
        raise UsageError("the authors' format can only be read; write canonical, or a backend's")
    if inference and name == CANONICAL:
        raise UsageError("canonical weights can't be folded: --inference is for backends' formats")
    if inference and level is not None:
        raise UsageError("--inference replaces the level: remove -O")
    level = DEFAULT_LEVEL if level is None else level
    passes_of(level)  # raises an error if there is no such level
    return formats(network, name, level, inference=inference)[0]


def _new_tensors(network: NetworkSpec, weights: Weights, target: Format) -> list[NewTensor]:
    if target.option != INFERENCE:
        return new_tensors(weights, target)
    dtype = one_type({weights.info(name).dtype: name for name in weights}, weights.place)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    folded = Compilation(network, inference=True).folded(wide)
    cast = {name: array.astype(numpy_dtype(dtype)) for name, array in folded.items()}
    return new_tensors(LoadedWeights(cast, weights.place), target)


def _record_non_finite(tensor: NewTensor, bad: list[str]) -> NewTensor:
    """The same tensor; its name is appended to ``bad`` if it holds NaN or infinity."""

    def make() -> Array:
        array = tensor.make()
        if not np.isfinite(array).all():
            bad.append(tensor.name)
        return array

    return replace(tensor, make=make)


def _metadata(network: NetworkSpec, target: Format) -> dict[str, str]:
    spec = {key: value for key, value in network.to_data().items() if key != "expect"}
    return {
        FORMAT: target.name,
        **({OPTION: target.option} if target.option else {}),
        DIGEST: Compilation(network).lowered.digest(),
        SPEC: json.dumps(spec, separators=(",", ":")),
    }
