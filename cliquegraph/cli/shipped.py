"""The commands on shipped specs: ``specs`` and ``init``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cliquegraph.cli.completion import complete_shipped
from cliquegraph.cli.options import Json, console_of, print_written
from cliquegraph.diagnostics.errors import UsageError


def specs(as_json: Json = False) -> None:
    """List the shipped specs, whose names every command accepts in place of a file.

    cliquegraph specs
    """
    from cliquegraph.cli.tables.shipped import shipped_json, shipped_table
    from cliquegraph.spec.shipped import shipped

    rows = [shipped_json(spec) for spec in shipped().values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        console = console_of()
        console.print(shipped_table(rows, console.width))


def init(
    output: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE.yaml")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="The shipped spec to copy; `cliquegraph specs` lists them.",
            autocompletion=complete_shipped,
        ),
    ] = "quickstart",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a spec to start from: a copy of a shipped one, with its comments, named like the file.

    The JSON Schema that its first line names for editors is written beside it.

    cliquegraph init mine.yaml --from quickstart
    """
    from cliquegraph.files import write_files
    from cliquegraph.spec.shipped import SCHEMA, find_shipped, renamed, shipped_folder

    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"a spec to start from is a .yaml file, not {output.name!r}")
    if output.exists() and not force:
        raise UsageError(f"{output} exists: --force overwrites it")
    schema = output.parent / SCHEMA
    files = {output: renamed(find_shipped(start).text, output.stem)}
    if not schema.exists():
        files[schema] = (shipped_folder() / SCHEMA).read_text(encoding="utf-8")
    changed = write_files(files)
    for path in files:
        print_written(path, changed=path in changed)
    typer.echo(f"cliquegraph check {output} checks it, cliquegraph summary {output} counts it")
