"""The command ``cliquegraph verify``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cliquegraph.cli.options import (
    Backends,
    Inference,
    Json,
    Level,
    Set,
    Spec,
    console_of,
    level_of,
    listed,
    load_spec,
    progress,
)


def verify(
    spec: Spec,
    backends: Backends = None,
    level: Level = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Images in the batch.", min=2, max=1024)
    ] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights and images.", min=0)] = 0,
    inference: Inference = False,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Verify numerically that the interpreter and the backends compute the same network.

    cliquegraph verify specs/quickstart.yaml --backends torch,flax
    """
    from cliquegraph.cli.tables.verify import verification_json, verification_table
    from cliquegraph.proof.verify import verify as run

    network = load_spec(spec, overrides)
    names = None if backends is None else listed(backends)
    with progress() as say:
        result = run(
            network,
            names,
            level=level_of(level, inference),
            inference=inference,
            seed=seed,
            batch=batch,
            report=say,
        )
    if as_json:
        typer.echo(json.dumps(verification_json(result), indent=2))
    else:
        console = console_of()
        console.print(verification_table(result))
        difference = [result.first_difference] if result.first_difference else []
        for line in (*result.skipped, *result.unjudged, *difference):
            console.print(line)
    raise typer.Exit(0 if result.ok else 1)
