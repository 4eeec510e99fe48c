"""Expansion of shorthand: ``block_defaults`` and ``training: cifar``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.plugins.kinds import default_kind
from cliquegraph.spec.document import MAX_VALUES, Document
from cliquegraph.spec.schema import MAX_BLOCKS, Path, set_by
from cliquegraph.spec.wording import describe_value

KEY = "block_defaults"


def expand_training(document: Document) -> None:
    """Expand the name of a recipe to a section, so that overrides can set its keys."""
    recipe = document.data.get("training")
    if isinstance(recipe, str):
        document.data["training"] = {"recipe": recipe}


def merge_block_defaults(document: Document) -> list[Document]:
    """Copy into each block the defaults for keys that it does not set itself, and a kind.

    Defaults that name a kind apply only to blocks of that kind.

    Returns:
        For defaults that every block overrides, so that validating the blocks would not find
        errors in them: for each kind of block they apply to, a document with one block that has
        them.

    Raises:
        SpecError: the defaults are not a section, too many, or no block is of their kind.
    """
    defaults = document.data.pop(KEY, {})
    if any(path == (KEY,) for path, _ in document.rejected):
        defaults = {}
    if not isinstance(defaults, dict):
        message = f"{KEY}: expected a section, found {describe_value(defaults)}"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, document.locate((KEY,))))
    blocks = document.data.get("blocks")
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
        return []  # the schema rejects them; merging into many would take long
    if len(blocks) * len(defaults) > MAX_VALUES:
        message = f"{KEY}: more than {MAX_VALUES:,} values when copied into each block"
        where, hint = document.locate((KEY,)), set_by("MAX_VALUES", Document.__module__)
        raise SpecError(Diagnostic(Code.OVER_LIMIT, message, where, hint))
    unused = {key: value for key, value in defaults.items() if key != "kind"}
    first_of: dict[str, Mapping[str, Any]] = {}
    for index, block in enumerate(blocks):
        if not isinstance(block, dict):
            continue
        if "kind" in block and block["kind"] != defaults.get("kind", block["kind"]):
            continue
        absent = {key: value for key, value in defaults.items() if key not in block}
        block.update(absent)
        for key in absent:
            document.written["blocks", index, key] = (KEY, key)
            unused.pop(key, None)
        block.setdefault("kind", default_kind())
        first_of.setdefault(describe_value(block["kind"]), block)
    if "kind" in defaults and not first_of and all(isinstance(block, dict) for block in blocks):
        message = f"{KEY}.kind: no block is of kind {describe_value(defaults['kind'])}"
        where, hint = document.locate((KEY, "kind")), f"remove {KEY}, or its kind"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, where, hint))
    return (
        [_document_with(document, block, unused) for block in first_of.values()] if unused else []
    )


def _document_with(
    document: Document, block: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Document:
    """Return a document with one block in which the defaults replace its own keys."""
    written: dict[Path, Path] = {("blocks", 0, key): (KEY, key) for key in defaults}
    return replace(document, data={"blocks": [{**block, **defaults}]}, written=written)
