"""Which network a file is for, and where that is another one."""

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
from cliquegraph.weights.source import TensorInfo, TensorSource
from cliquegraph.weights.torchvision_implied import torchvision_document

DIGEST = "cliquegraph.digest"
SPEC = "cliquegraph.spec"

# What a network may change and still be the one that its weights are for.
_IRRELEVANT = ("name", "class_name", "expect", "training", "cliquegraph")
# What the shapes of an official checkpoint do not tell.
UNTOLD = ("input.height", "input.width", "stem.stride", "stem.pool")

# Any network: what is asked of it is whether it can have a name.
_SMALLEST = {
    "input": {"channels": 1, "height": 8, "width": 8},
    "stem": {"filters": 1},
    "blocks": [{"layers": 2, "filters": 1}],
    "classifier": {"classes": 1},
}

Difference = tuple[str, object, object]
"""A key of two specs, and its value in each."""


def require_network(network: NetworkSpec, source: TensorSource, path: Path) -> None:
    """Refuse a file that says that it is for another op graph."""
    said = source.metadata.get(DIGEST)
    ours = Compilation(network).lowered.digest()
    if said is None or said == ours:
        return
    try:
        differing = spec_differences(loads(source.metadata.get(SPEC, ""), str(path)), network)
    except SpecError:
        differing = []
    why = (
        _listed(differing, "the file", "the spec")
        if differing
        else (
            f"  its op graph is sha256 {said[:12]}…, that of the spec {ours[:12]}…; the network is "
            "unchanged where an older cliquegraph wrote the file"
        )
    )
    raise WeightsError(
        f"{path} is for another network than {network.name}:\n{why}\n"
        "  `weights convert --ignore-digest` takes it all the same"
    )


def require_implied(network: NetworkSpec, source: TensorSource, path: Path) -> None:
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
    implied = implied_network(found, place, network.name, OFFICIAL)
    return [
        (key, theirs, ours)
        for key, theirs, ours in spec_differences(implied, network)
        if not (key.startswith(UNTOLD) or key.endswith("dropout"))
    ]


def implied_network(
    found: Mapping[str, TensorInfo], place: str, name: str, format: str
) -> NetworkSpec:
    """Return the network that a file's shapes imply; every tensor fits it.

    Args:
        found: the tensors by name.
        place: where they are, for messages.
        name: the network's.
        format: ``official`` or ``torchvision``.

    Raises:
        WeightsError: it is not of that format, or has tensors that fit no network.
        UsageError: no network can have that name.
    """
    try:
        _named(name, {})
    except SpecError as error:
        raise UsageError(f"no network can be called {name!r}: {_first(error)}") from None
    try:
        document = implied_document if format == OFFICIAL else torchvision_document
        network = _named(name, document(found, place))
    except SpecError as error:
        raise WeightsError(f"{place} implies no network: {_first(error)}") from None
    nearest = max(formats(network, format), key=lambda each: len(each.params.keys() & found.keys()))
    nearest.require(found, place)
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
    lines = [f"  {key}: {_said(a)} in {left}, {_said(b)} in {right}" for key, a, b in differences]
    more = [f"  and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _said(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
