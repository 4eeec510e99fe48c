"""The command ``cliquegraph prove``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliquegraph.cli.completion import complete_backend, complete_spec
from cliquegraph.cli.options import (
    SPECS_HELP,
    Json,
    Set,
    backends_of,
    console_of,
    load_spec,
    print_error,
    progress,
)
from cliquegraph.diagnostics.errors import CliqueGraphError, UsageError

if TYPE_CHECKING:
    from cliquegraph.compiler import Compilation
    from cliquegraph.passes.pipeline import Pass
    from cliquegraph.plugins.backends import Backend
    from cliquegraph.proof.certificate import Proved
    from cliquegraph.spec.network import NetworkSpec


def prove(
    specs: Annotated[
        list[str] | None,
        typer.Argument(help=SPECS_HELP, metavar="SPEC...", autocompletion=complete_spec),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            help="Installed backends, comma-separated, or all; none: the op graph alone.",
            autocompletion=complete_backend,
        ),
    ] = "all",
    level: Annotated[
        str | None, typer.Option("-O", metavar="LEVEL", help="0 (default), 1, 2, or all.")
    ] = None,
    inference: Annotated[
        bool, typer.Option("--inference", help="Folded models; with -O, also these levels.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Prove this generated file, which is executed, instead of what would be written.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the certificate to a file, JSON.")
    ] = None,
    recheck: Annotated[
        Path | None, typer.Option("--recheck", help="Repeat the proofs of a certificate.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of primes and all random numbers.", min=0)
    ] = 0,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Prove that generated files are the declared networks, forward and backward.

    The op graph after each pass, and the program that a file executes, are evaluated exactly at
    random points of prime fields and compared with the spec: logits, block features, running
    statistics and gradients. On a difference the exit code is 1. See docs/proof.md.

    cliquegraph prove specs/quickstart.yaml

    cliquegraph prove specs/cliquenet_s3.yaml --backend torch -O all -o s3.json

    cliquegraph prove --recheck s3.json
    """
    from cliquegraph.cli.tables.prove import files_table, graphs_table, notes

    if recheck is not None:
        if specs or file or out or level or inference or overrides or backend != "all":
            raise UsageError("--recheck repeats a certificate: remove specs and other options")
        _recheck(recheck, as_json)
    if not specs:
        raise UsageError("name a spec, or a certificate with --recheck")
    if len(specs) > 1 and (file or out):
        raise UsageError("--file and --out need a single spec")
    proved, failed, codes = [], [], [0]
    for path in specs:
        try:
            found = _prove(path, overrides, backend, _options(level, inference), file, seed)
        except CliqueGraphError as error:
            if len(specs) == 1:
                raise
            codes.append(error.exit_code)
            failed.append({"spec": path, "ok": False, "diagnostics": _diagnostics(error)})
            if not as_json:
                print_error(error)
            continue
        proved.append(found)
        codes.append(0 if found.ok else 1)
        if as_json:
            continue
        console = console_of()
        console.print(graphs_table(found))
        if found.files:
            console.print(files_table(found))
        for line in notes(found):
            console.print(line)
    if out is not None:
        from cliquegraph.files import write_files

        write_files({out: json.dumps(proved[0].certificate(), indent=2) + "\n"})
        if not as_json:
            console_of().print(f"wrote {out}")
    if as_json:
        documents = [each.certificate() for each in proved]
        typer.echo(json.dumps([*documents, *failed], indent=2))
    raise typer.Exit(max(codes))


def _diagnostics(error: CliqueGraphError) -> list[dict[str, Any]]:
    return [each.to_json() for each in error.diagnostics]


def _options(level: str | None, inference: bool) -> list[str]:
    """The options that select graphs: ``-O1``, ``--inference``."""
    from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS

    if level == "all":
        return [*(f"-O{each}" for each in LEVELS), "--inference"]
    if level is None:
        return ["--inference"] if inference else [f"-O{DEFAULT_LEVEL}"]
    if level not in map(str, LEVELS):
        raise UsageError(f"-O{level}: there are -O{', -O'.join(map(str, LEVELS))} and -O all")
    return [f"-O{level}", *(["--inference"] if inference else [])]


def _compilation(network: NetworkSpec, option: str) -> Compilation:
    from cliquegraph.compiler import Compilation
    from cliquegraph.passes.pipeline import DEFAULT_LEVEL

    if option == "--inference":
        return Compilation(network, DEFAULT_LEVEL, inference=True)
    return Compilation(network, int(option.removeprefix("-O")))


def _passes(option: str) -> tuple[Pass, ...]:
    from cliquegraph.passes.pipeline import INFERENCE, LEVELS

    return INFERENCE if option == "--inference" else LEVELS[int(option.removeprefix("-O"))]


def _prove(
    path: str,
    overrides: Sequence[str],
    backend: str,
    options: Sequence[str],
    file: Path | None,
    seed: int,
) -> Proved:
    from cliquegraph.compiler import Compilation
    from cliquegraph.proof.certificate import Proved
    from cliquegraph.proof.exact import compare_exactly
    from cliquegraph.proof.prove import Prover

    network = load_spec(path, overrides)
    backends = [] if backend == "none" else _runnable(backend)
    pairs = [(each, option) for each in backends for option in options]
    text = None
    if file is not None:
        if len(pairs) != 1:
            raise UsageError("--file is of one backend and one level: name them")
        text = _read(file)
    with progress() as say:
        # Files are compared at full width below: the graphs' comparison names the pass at fault.
        levels = [_passes(option) for option in options] if pairs else None
        graphs = compare_exactly(network, levels=levels, narrow=bool(pairs), seed=seed, report=say)
        stages = tuple(graphs)
        prover = Prover(Compilation(network, 0), seed, say)
        files = [prover.prove(_compilation(network, option), each, text) for each, option in pairs]
    named = None if file is None else str(file)
    return Proved(network, path, stages, tuple(files), tuple(overrides), named)


def _runnable(names: str) -> list[Backend]:
    """The backends; of all, those whose framework is installed."""
    from cliquegraph.diagnostics.errors import BackendError

    found = backends_of(names)
    missing = {each.name: each.missing() for each in found}
    if names == "all":
        found = [each for each in found if missing[each.name] is None]
        if not found:
            raise BackendError(f"no backend can run: {'; '.join(map(str, missing.values()))}")
    for each in found:
        if missing[each.name] is not None:
            raise BackendError(f"backend {each.name!r} lacks its framework: {missing[each.name]}")
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read {file}: {error}") from None


def _recheck(path: Path, as_json: bool) -> None:
    """Repeat the proofs of a certificate; exit with 1 unless everything is the same."""
    from cliquegraph.proof.certificate import differences, read_certificate

    kept = read_certificate(path)
    files: list[dict[str, Any]] = kept["files"]
    backends = ",".join(dict.fromkeys(each["backend"] for each in files)) or "none"
    options = list(dict.fromkeys(each["option"] for each in files))
    seed = next((point["seed"] for each in files for point in each["points"]), 0)
    spec = kept["spec"]
    file = Path(kept["path"]) if "path" in kept else None
    again = _prove(spec["file"], spec["overrides"], backends, options, file, seed).certificate()
    found = differences(kept, again)
    if as_json:
        typer.echo(json.dumps({"ok": not found, "differences": found}, indent=2))
    else:
        console = console_of()
        for line in found or [f"{kept['network']}: everything is as {path} says"]:
            console.print(line)
    raise typer.Exit(1 if found else 0)
