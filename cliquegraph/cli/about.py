"""The commands that print what the compiler knows: the language, errors, backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cliquegraph.cli.options import (
    Json,
    console_of,
    print_written,
)


def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a file in place of printing.")
    ] = None,
) -> None:
    """Print the JSON Schema of specs, for editors.

    cliquegraph schema -o specs/cliquegraph.schema.json
    """
    from cliquegraph.spec.json_schema import json_schema

    _give(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", output)


def _give(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file."""
    from cliquegraph.files import write_files

    if output is None:
        typer.echo(text, nl=False)
    else:
        written = write_files({output: text})
        print_written(output, changed=output in written)


def errors(
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a file in place of printing.")
    ] = None,
) -> None:
    """List the codes of errors, as Markdown.

    cliquegraph errors -o docs/errors.md
    """
    from cliquegraph.diagnostics.page import errors_page

    _give(errors_page(), output)


def backends(as_json: Json = False) -> None:
    """List the installed backends.

    cliquegraph backends
    """
    from cliquegraph.cli.tables.table import table
    from cliquegraph.plugins.backends import find_backend, installed

    rows = []
    for name, point in installed().items():
        found = find_backend(name)
        rows.append(
            {
                "name": name,
                "description": found.description,
                "from": point.value,
                "framework": found.missing() or "installed",
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    made = table(None, "backend", "writes", "from", "framework")
    for row in rows:
        made.add_row(*row.values())
    console_of().print(made)
