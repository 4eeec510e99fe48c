"""Networks to text: the spec that a person would write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from cliquegraph.plugins.kinds import default_kind
from cliquegraph.spec.network import NetworkSpec


def dumps(network: NetworkSpec, comment: str = "") -> str:
    """Return a network as YAML, without what is the default anyway; ``loads`` undone.

    Args:
        network: the network.
        comment: lines to begin with.
    """
    return dump_document(_stated(network), comment)


def dump_document(document: Mapping[str, Any], comment: str = "") -> str:
    """Return what a spec states as YAML, whether or not it declares a network.

    Args:
        document: plain data.
        comment: lines to begin with.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(_styled(document), stream)
    return "".join(f"# {line}\n" for line in comment.splitlines()) + stream.getvalue()


def _stated(network: NetworkSpec) -> dict[str, Any]:
    """What has to be said, with what all blocks say said once."""
    stated: dict[str, Any] = network.model_dump(mode="json", exclude_defaults=True)
    for block, model in zip(stated["blocks"], network.blocks, strict=True):
        block.pop("kind", None)
        if model.kind != default_kind():
            block["kind"] = model.kind
    first, *others = stated["blocks"]
    shared = {
        key: value
        for key, value in first.items()
        if key not in ("layers", "filters") and all(each.get(key) == value for each in others)
    }
    if shared and others:
        stated["blocks"] = [
            {key: value for key, value in each.items() if key not in shared}
            for each in stated["blocks"]
        ]
        position = list(stated).index("blocks")
        items = list(stated.items())
        stated = dict([*items[:position], ("block_defaults", shared), *items[position:]])
    return stated


def _styled(value: Any) -> Any:
    """Small mappings in braces, as in the shipped specs."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, dict):
        made = CommentedMap({key: _styled(each) for key, each in value.items()})
        if (
            all(not isinstance(each, list) for each in value.values())
            and "cliquegraph" not in value
        ):
            made.fa.set_flow_style()
        return made
    if isinstance(value, list):
        items = CommentedSeq(map(_styled, value))
        if not any(isinstance(each, dict) for each in value):
            items.fa.set_flow_style()
        return items
    return value
