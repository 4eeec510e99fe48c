"""Printing of networks as YAML, the way a person would write the spec."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from cliquegraph.plugins.kinds import default_kind
from cliquegraph.spec.load import Declaration, load
from cliquegraph.spec.network import NetworkSpec


def dumps(network: Declaration, comment: str = "") -> str:
    """Return a network as YAML without its default values; the inverse of ``loads``.

    Args:
        network: whatever ``load`` takes.
        comment: lines to start with.
    """
    return dump_document(explicit_keys(load(network)), comment)


def dump_document(document: Mapping[str, Any], comment: str = "") -> str:
    """Return a spec as YAML, whether or not it declares a valid network.

    Args:
        document: plain data.
        comment: lines to start with.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(_set_styles(document), stream)
    return "".join(f"# {line}\n" for line in comment.splitlines()) + stream.getvalue()


def explicit_keys(network: NetworkSpec) -> dict[str, Any]:
    """Return the keys that differ from their defaults; those that all blocks share, once."""
    spec: dict[str, Any] = network.model_dump(mode="json", exclude_defaults=True)
    for block, model in zip(spec["blocks"], network.blocks, strict=True):
        block.pop("kind", None)
        if model.kind != default_kind():
            block["kind"] = model.kind
    first, *others = spec["blocks"]
    shared = {
        key: value
        for key, value in first.items()
        if key not in ("layers", "filters") and all(each.get(key) == value for each in others)
    }
    if shared and others:
        spec["blocks"] = [
            {key: value for key, value in each.items() if key not in shared}
            for each in spec["blocks"]
        ]
        position = list(spec).index("blocks")
        items = list(spec.items())
        spec = dict([*items[:position], ("block_defaults", shared), *items[position:]])
    return spec


def _set_styles(value: Any) -> Any:
    """Use flow style for small mappings, as in the shipped specs."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, dict):
        mapping = CommentedMap({key: _set_styles(each) for key, each in value.items()})
        if (
            all(not isinstance(each, list) for each in value.values())
            and "cliquegraph" not in value
        ):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        items = CommentedSeq(map(_set_styles, value))
        if not any(isinstance(each, dict) for each in value):
            items.fa.set_flow_style()
        return items
    return value
