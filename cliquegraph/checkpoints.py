"""Weights of a network: read from any format, written to any, in files and in live models.

The formats are ``canonical``, the authors' ``official`` (reading), and one for each backend.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.draw.heat import NetworkHeat
from cliquegraph.emit.backend import LiveTensors, entry_points_of, find_backend, installed
from cliquegraph.errors import SpecError, UsageError, WeightsError
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.spec.dump import dumps
from cliquegraph.spec.load import loads
from cliquegraph.spec.schema import Expect, NetworkSpec
from cliquegraph.weights.describe import strengths
from cliquegraph.weights.layout import CanonicalLayout, Format, turned
from cliquegraph.weights.official import OfficialLayout, implied_document
from cliquegraph.weights.storage import Array, check_tensors, stored
from cliquegraph.weights.tensors import (
    NewTensor,
    TensorInfo,
    TensorSource,
    numpy_dtype,
    open_tensors,
    write_tensors,
)
from cliquegraph.weights.transfer import (
    Held,
    Reading,
    Weights,
    counter_metadata,
    new_tensors,
    one_type,
)

CANONICAL, OFFICIAL = "canonical", "official"
PICKLES = "cliquegraph.pickles"

FORMAT = "cliquegraph.format"
OPTION = "cliquegraph.option"
DIGEST = "cliquegraph.digest"
SPEC = "cliquegraph.spec"

# What a network may change and still be the one that its weights are for.
_IRRELEVANT = ("name", "class_name", "expect", "training", "cliquegraph")
# What the shapes of an official checkpoint do not tell.
_UNTOLD = ("input.height", "input.width", "stem.stride", "stem.pool")

Difference = tuple[str, object, object]
"""A key of two specs, and its value in each."""


# ---- formats -----------------------------------------------------------------------------


def format_names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return (CANONICAL, OFFICIAL, *installed())


def formats(
    network: NetworkSpec, name: str, level: int | None = None, *, inference: bool = False
) -> tuple[Format, ...]:
    """Return the formats of a network that have a name: one, or one for each -O level.

    Args:
        network: the network.
        name: ``canonical``, ``official`` or a backend's.
        level: the level that a backend's model was compiled with; None for all of them.
        inference: of a backend, the folded model alone.

    Raises:
        UsageError: there is no such level.
        BackendError: there is no such backend.
        WeightsError: the network is none that an official checkpoint can be of.
    """
    lowered = Compilation(network).lowered
    if name == CANONICAL:
        return (Format(name, lowered, CanonicalLayout()),)
    if name == OFFICIAL:
        return (Format(name, lowered, OfficialLayout(lowered)),)
    layout = find_backend(name).layout
    if inference:
        compilations = [Compilation(network, inference=True)]
    else:
        # The default first: several levels can have one layout.
        levels = sorted(LEVELS, key=lambda each: (each != DEFAULT_LEVEL, each))
        compilations = [Compilation(network, n) for n in (levels if level is None else [level])]
    return tuple(Format(name, each.graph, layout, *each.options) for each in compilations)


# ---- reading -----------------------------------------------------------------------------


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
            _require_network(network, source, path)
        found = _format_in(network, source, path, format, level)
        if found.name == OFFICIAL and not ignore_digest:
            _require_implied(network, source, path)
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
        return dict(weights)


def pickle_readers() -> Sequence[EntryPoint]:
    """Return what can read PyTorch's own files; nothing is imported yet."""
    return entry_points_of(PICKLES)


def _format_in(
    network: NetworkSpec, source: TensorSource, path: Path, name: str | None, level: int | None
) -> Format:
    """The format of a file: as asked for, as it says, or the one that its tensors fit."""
    said = source.metadata.get(FORMAT)
    if said is not None and name is not None and said != name:
        raise WeightsError(f"{path} says that its format is {said}, not {name}")
    if source.metadata.get(OPTION) == "--inference":
        raise WeightsError(
            f"{path} holds folded normalisations, which can't be undone; convert the weights "
            "that it was folded from"
        )
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


def _fitting(network: NetworkSpec, source: TensorSource, path: Path) -> Format:
    """The format that the tensors fit, else the one that they have most names of."""
    nearest, common = None, 0
    for name in format_names():
        try:
            candidates = formats(network, name)
        except WeightsError:  # not of the official form
            continue
        for each in candidates:
            if each.fits(source.infos):
                return each
            shared = len(each.params.keys() & source.infos.keys())
            if shared > common:
                nearest, common = each, shared
    if nearest is None:
        raise WeightsError(f"{path} holds no tensor of {network.name} in any format")
    return nearest


# ---- which network a file is for ---------------------------------------------------------


def _require_network(network: NetworkSpec, source: TensorSource, path: Path) -> None:
    """Refuse a file that says that it is for another op graph."""
    said = source.metadata.get(DIGEST)
    ours = Compilation(network).lowered.digest()
    if said is None or said == ours:
        return
    try:
        theirs = loads(source.metadata.get(SPEC, ""), str(path))
    except SpecError:
        raise WeightsError(
            f"{path} is for another network: its op graph is sha256 {said[:12]}…, that of "
            f"{network.name} is {ours[:12]}…"
        ) from None
    raise WeightsError(
        f"{path} is for another network than {network.name}:\n"
        + _listed(spec_differences(theirs, network), "the file", "the spec")
    )


def _require_implied(network: NetworkSpec, source: TensorSource, path: Path) -> None:
    """Refuse a spec that has the authors' tensors but computes another function of them."""
    differing = official_differences(network, source.infos, str(path))
    if differing:
        raise WeightsError(
            f"{path} implies another network than {network.name}:\n"
            + _listed(differing, "the checkpoint", "the spec")
        )


def spec_differences(left: NetworkSpec, right: NetworkSpec) -> list[Difference]:
    """Return the keys in which two networks differ, with both values."""
    one, other = (dict(_flat(each.model_dump(mode="json"))) for each in (left, right))
    keys = [*one, *(key for key in other if key not in one)]
    return [
        (key, one.get(key), other.get(key))
        for key in keys
        if one.get(key) != other.get(key) and key.split(".")[0] not in _IRRELEVANT
    ]


def official_differences(
    network: NetworkSpec, found: Mapping[str, TensorInfo], place: str
) -> list[Difference]:
    """Return where the network that an official checkpoint's shapes imply differs from a spec.

    Raises:
        WeightsError: it is no official checkpoint.
    """
    implied = _network(implied_document(found, place), "implied")
    return [
        (key, theirs, ours)
        for key, theirs, ours in spec_differences(implied, network)
        if not (key.startswith(_UNTOLD) or key.endswith("dropout"))
    ]


def _network(document: Mapping[str, Any], name: str) -> NetworkSpec:
    return loads(json.dumps({**document, "name": name}), name)


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    items: Iterator[tuple[object, object]]
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        items = iter(enumerate(value))
    else:
        yield path, value
        return
    for key, each in items:
        yield from _flat(each, f"{path}.{key}" if path else str(key))


def _listed(differences: Sequence[Difference], left: str, right: str, limit: int = 20) -> str:
    lines = [f"  {key}: {_said(a)} in {left}, {_said(b)} in {right}" for key, a, b in differences]
    more = [f"  and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _said(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


# ---- writing -----------------------------------------------------------------------------


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
        level: the -O level that a backend's model is compiled with; default: the compiler's.
        source_level: likewise of ``source``; default: as ``format``.
        inference: write what a model compiled with ``--inference`` takes.
        ignore_digest: take tensors that fit although the file is for another network.

    Raises:
        WeightsError: the file is damaged or is not for this network; says what differs.
        UsageError: the target can't be written.
    """
    if to == OFFICIAL:
        raise UsageError("the authors' format is for reading; write canonical, or a backend's")
    chosen = formats(network, to, DEFAULT_LEVEL if level is None else level, inference=inference)[0]
    reading = open_weights(network, source, format, source_level, ignore_digest=ignore_digest)
    with reading as weights:
        bad: list[str] = []
        made = [_watched(each, bad) for each in _made(network, weights, chosen)]
        metadata = {**_metadata(network, chosen), **counter_metadata(weights)}
        write_tensors(Path(target), made, metadata)
        return Conversion(
            weights.format, chosen, len(made), sum(_size(each.info) for each in made), tuple(bad)
        )


def write_weights(
    network: NetworkSpec,
    tensors: Mapping[str, Array],
    path: str | os.PathLike[str],
    format: str = CANONICAL,
    level: int = DEFAULT_LEVEL,
) -> None:
    """Write canonical tensors to a safetensors file.

    Args:
        network: the network.
        tensors: every one of its canonical tensors, by name.
        path: the file.
        format: ``canonical``, or a backend's.
        level: the -O level that the backend's model is compiled with.

    Raises:
        WeightsError: ``tensors`` are not those of the network.
        UsageError: the file can't be written.
    """
    if format == OFFICIAL:
        raise UsageError("the authors' format is for reading; write canonical, or a backend's")
    check_tensors(Compilation(network).lowered, tensors)
    (chosen,) = formats(network, format, level)
    made = new_tensors(Held(tensors, "the weights"), chosen)
    write_tensors(Path(path), made, _metadata(network, chosen))


def _made(network: NetworkSpec, weights: Weights, target: Format) -> list[NewTensor]:
    if target.option != "--inference":
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


def _size(info: TensorInfo) -> int:
    return int(np.prod(info.shape)) * numpy_dtype(info.dtype).itemsize


# ---- live models -------------------------------------------------------------------------


def load_weights(
    model: object,
    network: NetworkSpec,
    weights: Mapping[str, Array] | str | os.PathLike[str],
) -> None:
    """Set every parameter and running statistic of a generated model.

    The model keeps its types and devices. One that was compiled with ``--inference`` takes the
    same tensors: they are folded on the way.

    Args:
        model: a generated PyTorch or Flax model, of any -O level.
        network: what it was compiled from.
        weights: canonical tensors by name, or a file of any format.

    Raises:
        WeightsError: the weights or the model are not of this network; nothing is set then.
        UsageError: it is no model of an installed backend.
    """
    tensors = weights if isinstance(weights, Mapping) else read_weights(network, weights)
    check_tensors(Compilation(network).lowered, tensors)
    live, found = _live(model, network)
    if found.option == "--inference":
        wide = {name: np.asarray(array, np.float64) for name, array in tensors.items()}
        tensors = Compilation(network, inference=True).folded(wide)
    # All first: two statistics that disagree must not leave a model half-set.
    storage = {name: stored(param, tensors) for name, param in found.params.items()}
    for name, array in storage.items():
        live.write(name, turned(found.layout, found.params[name], array))


def model_weights(model: object, network: NetworkSpec) -> dict[str, Array]:
    """Return the canonical tensors of a generated model, by name, of the model's types.

    Raises:
        WeightsError: the model is not of this network, or holds folded normalisations.
        UsageError: it is no model of an installed backend.
    """
    live, found = _live(model, network)
    if found.option == "--inference":
        raise WeightsError("the model holds folded normalisations, which can't be undone")
    return dict(Reading(live, found, "the model"))


def _live(model: object, network: NetworkSpec) -> tuple[LiveTensors, Format]:
    """A model's tensors, and the format that they are in."""
    for name in installed():
        live = find_backend(name).live(model)
        if live is not None:
            candidates = (*formats(network, name), *formats(network, name, inference=True))
            infos = live.infos
            fitting = [each for each in candidates if each.fits(infos)]
            if not fitting:
                candidates[0].require(infos, "the model")
            return live, fitting[0]
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    known = ", ".join(installed()) or "none"
    raise UsageError(f"a {kind} is no model of an installed backend ({known})")


# ---- pictures ----------------------------------------------------------------------------


def network_heat(
    network: NetworkSpec,
    path: str | os.PathLike[str],
    block: int | None = None,
    *,
    ignore_digest: bool = False,
) -> NetworkHeat:
    """Return how strong each connection of a network is: Figure 5 of the paper.

    Args:
        network: the network.
        path: its weights, in any format.
        block: one block, from 1; None for all.
        ignore_digest: take tensors that fit although the file is for another network.

    Raises:
        WeightsError: the weights are not of this network, or hold NaN.
        UsageError: there is no such block.
    """
    if block is not None and block > len(network.blocks):
        raise UsageError(f"{network.name} has blocks 1 to {len(network.blocks)}, not {block}")
    with open_weights(network, path, ignore_digest=ignore_digest) as weights:
        found = strengths(weights.format.graph, weights)
    wanted = [each for each in found if block in (None, each.block)]
    return NetworkHeat(network.name, wanted)


# ---- official checkpoints ----------------------------------------------------------------


def infer_spec(path: str | os.PathLike[str], name: str | None = None) -> NetworkSpec:
    """Return the network that the shapes of an official checkpoint imply.

    What shapes do not tell is the authors' ImageNet model: images of 224×224, the stem's stride
    and pool.

    Args:
        path: the checkpoint.
        name: the network's name; default: after the file.

    Raises:
        WeightsError: it is no official checkpoint, or one with tensors that fit no network.
    """
    path = Path(path)
    with open_tensors(path, pickle_readers()) as source:
        document = implied_document(source.infos, str(path))
        network = _network(document, name or _name_after(path))
        formats(network, OFFICIAL)[0].require(source.infos, str(path))
        return network


def check_official(network: NetworkSpec, path: str | os.PathLike[str]) -> list[Difference]:
    """Return where the network that an official checkpoint implies differs from a spec.

    Raises:
        WeightsError: it is no official checkpoint.
    """
    path = Path(path)
    with open_tensors(path, pickle_readers()) as source:
        return official_differences(network, source.infos, str(path))


def inferred_text(
    path: str | os.PathLike[str],
    name: str | None = None,
    target: str | os.PathLike[str] | None = None,
) -> str:
    """Return the spec that an official checkpoint implies, as YAML.

    Args:
        path: the checkpoint.
        name: the network's name; default: after ``target``, else after ``path``.
        target: the file that the text is for.

    Raises:
        WeightsError: it is no official checkpoint, or one with tensors that fit no network.
    """
    network = infer_spec(path, name or (None if target is None else _name_after(Path(target))))
    parameters = Compilation(network).cost.total.parameters
    counted = network.model_copy(update={"expect": Expect(parameters=parameters)})
    return dumps(counted, f"{', '.join(_UNTOLD)}: the authors' ImageNet model; shapes don't tell")


def _name_after(path: Path) -> str:
    stem = path.name.split(".")[0].lower()
    kept = "".join(each if each.isascii() and each.isalnum() else "_" for each in stem).strip("_")
    return kept if kept[:1].isalpha() else f"network_{kept}".rstrip("_")
