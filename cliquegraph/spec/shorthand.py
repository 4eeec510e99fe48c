"""What a file may say in short: ``block_defaults`` and ``training: cifar``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.plugins.kinds import default_kind
from cliquegraph.spec.document import MAX_VALUES, Document
from cliquegraph.spec.schema import MAX_BLOCKS, Path, set_by
from cliquegraph.spec.wording import found

KEY = "block_defaults"


def expand_training(document: Document) -> None:
    """Write the name of a recipe out as a section, so that overrides reach its keys."""
    recipe = document.data.get("training")
    if isinstance(recipe, str):
        document.data["training"] = {"recipe": recipe}


def merge_block_defaults(document: Document) -> list[Document]:
    """Give each block the defaults that it does not state itself, and a kind.

    Defaults that name a kind are for blocks of that kind: one that says it is of another gets
    none of them.

    Returns:
        For the defaults that every block states itself, so that none shows what is wrong with
        them: per kind of block that they are for, a document of one block that says what they
        say.

    Raises:
        SpecError: the defaults are no section, too many, or no block is of their kind.
    """
    defaults = document.data.pop(KEY, {})
    if any(path == (KEY,) for path, _ in document.refused):
        defaults = {}
    if not isinstance(defaults, dict):
        message = f"{KEY}: expected a section, found {found(defaults)}"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, document.locate((KEY,))))
    blocks = document.data.get("blocks")
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
        return []  # the schema refuses them; merging into many would take long
    if len(blocks) * len(defaults) > MAX_VALUES:
        message = f"{KEY}: more than {MAX_VALUES:,} values when each block has them"
        where, hint = document.locate((KEY,)), set_by("MAX_VALUES", Document.__module__)
        raise SpecError(Diagnostic(Code.OVER_LIMIT, message, where, hint))
    left = {key: value for key, value in defaults.items() if key != "kind"}
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
            left.pop(key, None)
        block.setdefault("kind", default_kind())
        first_of.setdefault(found(block["kind"]), block)
    if "kind" in defaults and not first_of and all(isinstance(block, dict) for block in blocks):
        message = f"{KEY}.kind: no block is of the kind {found(defaults['kind'])}"
        where, hint = document.locate((KEY, "kind")), f"leave {KEY} out, or its kind"
        raise SpecError(Diagnostic(Code.WRONG_VALUE, message, where, hint))
    return [_stating(document, block, left) for block in first_of.values()] if left else []


def _stating(document: Document, block: Mapping[str, Any], defaults: Mapping[str, Any]) -> Document:
    """Return a document of one block, which says what the defaults say, not its own."""
    written: dict[Path, Path] = {("blocks", 0, key): (KEY, key) for key in defaults}
    return replace(document, data={"blocks": [{**block, **defaults}]}, written=written)
