"""The command ``cliquegraph fuzz``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cliquegraph.cli.options import (
    Backends,
    Inference,
    Json,
    console_of,
    level_of,
    listed,
    progress,
)


def fuzz(
    count: Annotated[int, typer.Option("--count", help="Number of specs.", min=1)] = 20,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of specs, weights and images.", min=0)
    ] = 0,
    start: Annotated[int, typer.Option("--start", help="The first spec, from 0.", min=0)] = 0,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for minimal specs that fail.")
    ] = Path("fuzz"),
    backends: Backends = None,
    level: Annotated[
        int | None,
        typer.Option(
            "-O", "--level", metavar="LEVEL", help="Only this level; default: each.", min=0
        ),
    ] = None,
    inference: Inference = False,
    as_json: Json = False,
) -> None:
    """Verify random networks at every level; shrink those that fail and save them.

    Spec I of a seed is always the same: --start I --count 1 draws it again.

    cliquegraph fuzz --count 20 --seed 0
    """
    from cliquegraph.cli.tables.fuzz import coverage_table, fuzzing_json, fuzzing_lines
    from cliquegraph.fuzz.fuzz import TARGETS, Target
    from cliquegraph.fuzz.fuzz import fuzz as run
    from cliquegraph.passes.pipeline import passes_of

    targets = TARGETS
    if level is not None or inference:
        chosen = level_of(level, inference)
        passes_of(chosen)
        targets = (Target(chosen, inference),)
    names = None if backends is None else listed(backends)
    with progress() as say:
        found = run(
            count, seed, start=start, backends=names, targets=targets, folder=out, report=say
        )
    if as_json:
        typer.echo(json.dumps(fuzzing_json(found), indent=2))
    else:
        console = console_of()
        console.print(coverage_table(found))
        for line in fuzzing_lines(found):
            typer.echo(line)
    raise typer.Exit(0 if found.ok else 1)
