"""What a file may say in short: ``block_defaults`` and ``training: cifar``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cliquegraph.codes import Code
from cliquegraph.errors import Diagnostic, SpecError
from cliquegraph.spec.document import MAX_VALUES, Document, limit
from cliquegraph.spec.schema import MAX_BLOCKS, set_by
from cliquegraph.spec.wording import found

KEY = "block_defaults"
DEFAULT_KIND = "clique"


def expand_training(document: Document) -> None:
    """Write the name of a recipe out as a section, so that overrides reach its keys."""
    recipe = document.data.get("training")
    if isinstance(recipe, str):
        document.data["training"] = {"recipe": recipe}


def merge_block_defaults(document: Document) -> dict[str, Any]:
    """Give each block the defaults that it does not state itself, and a kind.

    Defaults that name a kind are for blocks of that kind: one that says it is of another gets
    none of them.

    Returns:
        The defaults that every block states itself: nobody asks what they are worth.

    Raises:
        SpecError: the defaults are no section, no block is of their kind, or there are too many
            blocks.
    """
    defaults = document.data.pop(KEY, {})
    if any(path == (KEY,) for path, _ in document.refused):
        defaults = {}
    if not isinstance(defaults, dict):
        message = f"{KEY}: expected a section, found {found(defaults)}"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, document.locate((KEY,))))
    blocks = document.data.get("blocks")
    if not isinstance(blocks, list):
        return {}
    if len(blocks) > MAX_BLOCKS:
        message = f"blocks: expected at most {MAX_BLOCKS} blocks, found {len(blocks)}"
        where = document.locate(("blocks",))
        hint = set_by("MAX_BLOCKS")
        raise SpecError(Diagnostic(Code.OVER_LIMIT, message, where, hint))
    if len(blocks) * len(defaults) > MAX_VALUES:
        message = f"{KEY}: more than {MAX_VALUES:,} values when each block has them"
        where, hint = document.locate((KEY,)), limit("MAX_VALUES")
        raise SpecError(Diagnostic(Code.OVER_LIMIT, message, where, hint))
    left, reached = dict(defaults), False
    for index, block in enumerate(blocks):
        if not isinstance(block, dict):
            continue
        if "kind" not in block or block["kind"] == defaults.get("kind", block["kind"]):
            reached = True
            absent = {key: value for key, value in defaults.items() if key not in block}
            block.update(absent)
            for key in absent:
                document.written["blocks", index, key] = (KEY, key)
                left.pop(key, None)
        block.setdefault("kind", DEFAULT_KIND)
    if "kind" in defaults and not reached and all(isinstance(block, dict) for block in blocks):
        message = f"{KEY}.kind: no block is of the kind {found(defaults['kind'])}"
        where, hint = document.locate((KEY, "kind")), f"leave {KEY} out, or its kind"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, where, hint))
    # A key of one kind alone may be a fault in a block of another.
    kinds = [block.get("kind") for block in blocks if isinstance(block, dict)]
    alike = bool(kinds) and kinds.count(kinds[0]) == len(kinds)
    left.pop("kind", None)
    return left if alike else {}


def stating(document: Document, defaults: dict[str, Any]) -> Document:
    """Return the document where the first block says what the defaults say, not its own."""
    blocks = list(document.data["blocks"])
    index = next(i for i, block in enumerate(blocks) if isinstance(block, dict))
    blocks[index] = {**blocks[index], **defaults}
    written = {("blocks", index, key): (KEY, key) for key in defaults}
    data = {**document.data, "blocks": blocks}
    return replace(document, data=data, written=document.written | written)
