"""The commands that compile and check specs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cliquegraph.cli.completion import complete_backend, complete_spec
from cliquegraph.cli.options import (
    SPECS_HELP,
    Inference,
    Json,
    Level,
    Set,
    Specs,
    backends_of,
    compilation_of,
    console_of,
    print_error,
    print_json,
    print_written,
    specs_of_folder,
)
from cliquegraph.diagnostics.errors import CliqueGraphError, UsageError


def compile_command(
    specs: Annotated[
        list[str] | None,
        typer.Argument(help=SPECS_HELP, metavar="SPEC...", autocompletion=complete_spec),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            help="Installed backends, comma-separated, or all.",
            autocompletion=complete_backend,
        ),
    ] = "all",
    level: Level = None,
    out: Annotated[
        Path, typer.Option("--out", help="Output folder, with a folder for each backend.")
    ] = Path("generated"),
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing; print what would change, and exit with 1 if anything would.",
        ),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every spec in ./specs.")] = False,
    inference: Inference = False,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Compile specs to source files, OUT/BACKEND/NAME.py (NAME_inference.py).

    cliquegraph compile specs/cliquenet_s3.yaml --backend torch

    cliquegraph compile cliquenet_s3 --backend torch

    cliquegraph compile --all --check
    """
    from cliquegraph.emit.header import origin_lines
    from cliquegraph.files import destination, difference, write_files

    if everything == bool(specs):
        raise UsageError("name the specs to compile, or use --all for every spec in ./specs")
    paths = specs or specs_of_folder()
    backends = backends_of(backend)
    compiled: dict[Path, tuple[str, str]] = {}
    for path in paths:
        compilation = compilation_of(path, overrides, level, inference)
        for each in backends:
            target = out / each.name / f"{compilation.module_name}.py"
            if target in compiled:
                if compiled[target][0] == path:
                    raise UsageError(f"{path} is named twice")
                raise UsageError(
                    f"{compiled[target][0]} and {path} are both called "
                    f"{compilation.network.name}: {target} can hold only one"
                )
            if not destination(target).is_relative_to(destination(out)):
                raise UsageError(f"can't write {target}: a link leads out of {out}")
            origin = origin_lines(path, each.name, compilation.options, overrides)
            compiled[target] = (path, compilation.source(each, origin))
    files = {target: source for target, (_, source) in compiled.items()}
    if check:
        differences = {target: difference(target, source) for target, source in files.items()}
        changed = {target for target, diff in differences.items() if diff}
    else:
        changed = write_files(files)
    if as_json:
        rows = [
            {"spec": path, "file": str(target), "changed": target in changed}
            for target, (path, _) in compiled.items()
        ]
        typer.echo(json.dumps({"files": rows}, indent=2))
    elif check:
        typer.echo("".join(differences.values()), nl=False)
        same = len(files) - len(changed)
        typer.echo(f"{same} of {len(files)} files are up to date")
    else:
        for target in files:
            print_written(target, changed=target in changed)
    raise typer.Exit(1 if check and changed else 0)


def check(
    specs: Specs,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Prove the weight sharing of specs and compare their figures with expect.

    cliquegraph check specs/cliquenet_s3.yaml
    """
    checked = (_checked(path, as_json, overrides) for path in specs)
    results, codes = zip(*checked, strict=True)
    if as_json:
        print_json(list(results))
    raise typer.Exit(max(codes))


def _checked(path: str, as_json: bool, overrides: list[str]) -> tuple[dict[str, Any], int]:
    """Check one spec independently of others; return the result and an exit code."""
    from cliquegraph.cli.tables.check import expect_table, proof_json, proof_table

    result: dict[str, Any] = {"ok": False}
    try:
        compilation = compilation_of(path, overrides)
        result = proof_json(compilation)
        if not as_json:
            console = console_of()
            console.print(proof_table(compilation))
            if compilation.comparisons:
                console.print(expect_table(compilation))
        compilation.require_expected()
    except CliqueGraphError as error:
        if not as_json:
            print_error(error)
        diagnostics = [each.to_json() for each in error.diagnostics]
        return {"spec": path, **result, "ok": False, "diagnostics": diagnostics}, error.exit_code
    return {"spec": path, **result}, 0 if result["ok"] else 1
