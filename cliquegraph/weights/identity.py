"""Identification of the network that a weights file is for, and its differences from a spec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import SpecError, UsageError, WeightsError
from cliquegraph.spec.load import loads
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights.formats import OFFICIAL, formats
from cliquegraph.weights.official import implied_document
from cliquegraph.weights.over_time import continues
from cliquegraph.weights.source import TensorInfo, TensorSource
from cliquegraph.weights.torchvision_implied import torchvision_document

DIGEST = "cliquegraph.digest"
SPEC = "cliquegraph.spec"

# Keys that may change without affecting compatibility with weights.
_IRRELEVANT = ("name", "class_name", "expect", "training", "cliquegraph")
# Keys that the shapes of an official checkpoint do not determine.
UNTOLD = ("input.height", "input.width", "stem.stride", "stem.pool")
# Keys that may differ between the network of pretrained weights and the one to be fine-tuned.
_SIZES = ("input.", "classifier.classes")
_RATES = ("dropout", "drop_path", "drop_path.local", "drop_path.global")

# A minimal network, to check whether a name is valid.
_SMALLEST = {
    "input": {"channels": 1, "height": 8, "width": 8},
    "stem": {"filters": 1},
    "blocks": [{"layers": 2, "filters": 1}],
    "classifier": {"classes": 1},
}

Difference = tuple[str, object, object]
"""A key of two specs, and its value in each."""


def require_network(network: NetworkSpec, source: TensorSource, path: Path) -> None:
    """Reject a file whose metadata names another op graph.

    More or fewer stages of a readout over time are accepted where they share all tensors.
    """
    digest = source.metadata.get(DIGEST)
    ours = Compilation(network).lowered.digest()
    if digest is None or digest == ours:
        return
    try:
        theirs = loads(source.metadata.get(SPEC, ""), str(path))
        if Compilation(theirs).lowered.digest() == digest and continues(theirs, network):
            return
        differing = spec_differences(theirs, network)
    except SpecError:
        differing = []
    why = (
        _listed(differing, "the file", "the spec")
        if differing
        else (
            f"  the sha256 of its op graph is {digest[:12]}…, but the spec's is {ours[:12]}…; the "
            "network may be the same if an older cliquegraph wrote the file"
        )
    )
    advice = "`weights convert --ignore-digest` accepts it anyway"
    if [key for key, _, _ in differing] == ["classifier.classes"]:
        advice = (
            f"--set classifier.classes={differing[0][1]} reads it; load_weights(..., head='skip') "
            "and train --init leave out the classifier"
        )
    if len(differing) == 1 and differing[0][0].endswith(".stages") and network.readout.over_time:
        advice = (
            "more or fewer stages fit where all share their normalizations: norms: shared, in "
            "the block and in readout"
        )
    raise WeightsError(f"{path} is for another network than {network.name}:\n{why}\n  {advice}")


def differs_in_sizes_alone(network: NetworkSpec, source: TensorSource, path: Path) -> bool:
    """Tell whether a file is for this network, but for sizes that fine-tuning changes.

    These are the image's size and channels, the number of classes, and the rates of dropout. Files
    that name no network are never accepted here.
    """
    try:
        theirs = loads(source.metadata.get(SPEC, ""), str(path))
    except SpecError:
        return False
    if Compilation(theirs).lowered.digest() != source.metadata.get(DIGEST):
        return False
    return all(
        key.startswith(_SIZES) or key.endswith(_RATES)
        for key, _, _ in spec_differences(theirs, network)
    )


def require_implied(network: NetworkSpec, source: TensorSource, path: Path) -> None:
    """Reject a spec that has the authors' tensors but computes a different function of them."""
    differing = official_differences(network, source.infos, str(path))
    if differing:
        raise WeightsError(
            f"{path} implies another network than {network.name}:\n"
            + _listed(differing, "the checkpoint", "the spec")
        )


def spec_differences(left: NetworkSpec, right: NetworkSpec) -> list[Difference]:
    """Return the keys in which two networks differ, with their values in both."""
    one, other = (dict(_flat(each.model_dump(mode="json"))) for each in (left, right))
    keys = [*one, *(key for key in other if key not in one)]
    return [
        (key, one.get(key), other.get(key))
        for key in keys
        if one.get(key) != other.get(key) and key.split(".")[0] not in _IRRELEVANT
    ]


def official_differences(
    network: NetworkSpec, infos: Mapping[str, TensorInfo], place: str
) -> list[Difference]:
    """Return the differences between the network implied by an official checkpoint and a spec.

    Raises:
        WeightsError: it is not an official checkpoint.
    """
    implied = implied_network(infos, place, network.name, OFFICIAL)
    return [
        (key, theirs, ours)
        for key, theirs, ours in spec_differences(implied, network)
        if not (key.startswith(UNTOLD) or key.endswith("dropout"))
    ]


def implied_network(
    infos: Mapping[str, TensorInfo], place: str, name: str, format: str
) -> NetworkSpec:
    """Return the network implied by a file's shapes; every tensor matches it.

    Args:
        infos: the tensors' types and shapes, by name.
        place: their location, for messages.
        name: the network's.
        format: ``official`` or ``torchvision``.

    Raises:
        WeightsError: the file is not in that format, or its tensors match no network.
        UsageError: the name is not valid.
    """
    try:
        _named(name, {})
    except SpecError as error:
        raise UsageError(f"{name!r} is not a valid network name: {_first(error)}") from None
    try:
        document = implied_document if format == OFFICIAL else torchvision_document
        network = _named(name, document(infos, place))
    except SpecError as error:
        raise WeightsError(f"{place} implies no network: {_first(error)}") from None
    nearest = max(formats(network, format), key=lambda each: len(each.params.keys() & infos.keys()))
    nearest.require(infos, place)
    return network


def _named(name: str, document: Mapping[str, object]) -> NetworkSpec:
    whole = {"cliquegraph": 1, **_SMALLEST, **document, "name": name}
    return loads(json.dumps(whole), name)


def _first(error: SpecError) -> str:
    return error.diagnostics[0].message


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
    lines = [
        f"  {key}: {_json_text(a)} in {left}, {_json_text(b)} in {right}"
        for key, a, b in differences
    ]
    more = [f"  and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _json_text(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
