"""The command ``cliquegraph render``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cliquegraph.cli.completion import complete_spec, one_of
from cliquegraph.cli.options import (
    Block,
    Set,
    Spec,
    load_spec,
    print_written,
)
from cliquegraph.diagnostics.errors import UsageError


def render(
    spec: Spec,
    other: Annotated[
        str | None,
        typer.Argument(
            help="With --diff: the spec to compare with.",
            metavar="SPEC",
            autocompletion=complete_spec,
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option("-o", "--out", help="FILE.svg, .png, .pdf, .dot, .json or .html; - prints."),
    ] = "-",
    view: Annotated[
        str,
        typer.Option(
            "--view",
            help="loop (Figure 1), steps (Table 1) or network (Figure 2).",
            autocompletion=one_of("loop", "steps", "network"),
        ),
    ] = "loop",
    block: Block = None,
    stage: Annotated[
        int | None, typer.Option("--stage", "-s", help="Only this stage, from 1.", min=1)
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Default: by the file's suffix; svg for -.",
            autocompletion=one_of("svg", "png", "pdf", "dot", "json", "html"),
        ),
    ] = None,
    difference: Annotated[
        bool,
        typer.Option("--diff", help="Mark additions, removals and changes in the second spec."),
    ] = False,
    overrides: Set = [],
) -> None:
    """Draw a block as a loop, its steps, or the network.

    cliquegraph render specs/cliquenet_k64_t15.yaml --block 1 -o loop.svg

    cliquegraph render specs/cliquenet_s3.yaml --view network -o s3.png

    cliquegraph render specs/cliquenet_s3.yaml -o s3.html

    cliquegraph render specs/cliquenet_k36_t15_i_ii.yaml specs/cliquenet_k36_t15_ii_ii.yaml
    --diff --view steps -o diff.svg
    """
    from cliquegraph.draw.render import Request, render
    from cliquegraph.files import write_bytes
    from cliquegraph.steps.unroll import unroll

    if difference != (other is not None):
        raise UsageError("--diff compares two specs: name both, or remove it")
    suffix = form or ("svg" if output == "-" else Path(output).suffix.removeprefix("."))
    steps = unroll(load_spec(spec, overrides))
    compared = None if other is None else unroll(load_spec(other, overrides))
    picture = render(steps, Request(view, block, stage), suffix.lower(), compared)
    if output == "-":
        sys.stdout.buffer.write(picture)
    else:
        write_bytes(Path(output), [picture])
        print_written(output)
