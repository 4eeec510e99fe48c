"""The commands that describe the compiler: the language, errors, backends."""

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
        Path | None, typer.Option("-o", "--out", help="Write to a file instead of standard output.")
    ] = None,
) -> None:
    """Print the JSON Schema of specs, for editors.

    cliquegraph schema -o specs/cliquegraph.schema.json
    """
    from cliquegraph.spec.json_schema import json_schema

    _output(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", output)


def _output(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file."""
    from cliquegraph.files import write_files

    if output is None:
        typer.echo(text, nl=False)
    else:
        written = write_files({output: text})
        print_written(output, changed=output in written)


def errors(
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write to a file instead of standard output.")
    ] = None,
) -> None:
    """List the error codes, as Markdown.

    cliquegraph errors -o docs/errors.md
    """
    from cliquegraph.diagnostics.page import errors_page

    _output(errors_page(), output)


def backends(as_json: Json = False) -> None:
    """List the installed backends.

    cliquegraph backends
    """
    from cliquegraph.plugins.backends import find_backend, installed
    from cliquegraph.tables.table import table

    rows = []
    for name, point in installed().items():
        backend = find_backend(name)
        rows.append(
            {
                "name": name,
                "description": backend.description,
                "from": point.value,
                "framework": backend.missing() or "installed",
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    result = table(None, "backend", "writes", "from", "framework")
    for row in rows:
        result.add_row(*row.values())
    console_of().print(result)
