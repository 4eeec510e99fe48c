"""The options of ``train`` that start from existing weights and freeze parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliquegraph.cli.options import listed
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.diagnostics.location import printable

if TYPE_CHECKING:
    from cliquegraph.compiler import Compilation
    from cliquegraph.training.job import Initial

_PANEL = "Fine-tuning"
Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        metavar="FILE",
        rich_help_panel=_PANEL,
        help="Start from weights in any format; the classifier starts at random if it has another "
        "number of classes.",
    ),
]
NewHead = Annotated[
    bool,
    typer.Option(
        "--new-head", rich_help_panel=_PANEL, help="With --init: start the classifier at random."
    ),
]
Freeze = Annotated[
    str,
    typer.Option(
        "--freeze",
        metavar="PART,...",
        rich_help_panel=_PANEL,
        help="Parts that stay as they are, with their running statistics: stem,block1, or backbone "
        "for all but the classifier.",
    ),
]


def frozen(compilation: Compilation, names: str) -> tuple[str, ...]:
    """Return the parts that ``--freeze`` names."""
    from cliquegraph.training.pretrained import frozen_parts

    return frozen_parts(compilation, listed(names))


def initial_weights(compilation: Compilation, path: Path | None, new_head: bool) -> Initial | None:
    """Return the weights that ``--init`` names, and print what was fitted."""
    from cliquegraph.training.launch import is_writer
    from cliquegraph.training.pretrained import pretrained

    if path is None:
        if new_head:
            raise UsageError("--new-head is for --init: without it every part starts at random")
        return None
    initial, line = pretrained(compilation.network, path, new_head=new_head)
    if is_writer():
        typer.echo(printable(line))
    return initial
