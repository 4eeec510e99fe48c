"""The command line. It knows no backend by name.

Every command loads its specs, does one thing of the Python API and prints what ``tables``
makes of it. ``Commands`` prints what goes wrong.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cliquegraph.cli.fuzz import fuzz
from cliquegraph.cli.options import (
    Backends,
    Block,
    Commands,
    Inference,
    Json,
    Level,
    Set,
    Spec,
    Specs,
    backends_of,
    compilation_of,
    complete_backend,
    console_of,
    level_of,
    listed,
    load_spec,
    print_error,
    print_json,
    print_written,
    progress,
    shipped_specs,
)
from cliquegraph.cli.trained import curves, evaluate, inspect, predict
from cliquegraph.cli.training import study, train_command
from cliquegraph.cli.weights import weights
from cliquegraph.diagnostics.errors import CliqueGraphError, UsageError
from cliquegraph.diagnostics.location import printable

app = typer.Typer(
    cls=Commands,
    name="cliquegraph",
    help="Compile networks of clique blocks (CliqueNet, CVPR 2018) from a short spec.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.add_typer(weights)
app.add_typer(inspect)
app.command("train")(train_command)
for command in (evaluate, predict, curves, study, fuzz):
    app.command()(command)


def main() -> None:
    """Run the command line and exit with 0: it holds, 1: the answer is no, 2: bad input."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show × or → gets an escape, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if hasattr(signal, "SIGPIPE"):
        # A reader that closes the pipe ends us as it ends other tools; 1 would be an answer.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        app()
    except OSError as error:
        # What is read and written by name raises its own kind; this is standard output.
        print_error(UsageError(f"can't write the output: {error.strerror}"))
        sys.exit(UsageError.exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        from cliquegraph import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# ---- commands ----------------------------------------------------------------------------


@app.command("compile")
def compile_command(
    specs: Annotated[
        list[str] | None, typer.Argument(help="Specs, YAML or JSON.", metavar="SPEC...")
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
        Path, typer.Option("--out", help="Folder that holds a folder for each backend.")
    ] = Path("generated"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; print what would change, exit 1 if any.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every spec in ./specs.")] = False,
    inference: Inference = False,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Compile specs to source files, OUT/BACKEND/NAME.py (NAME_inference.py).

    cliquegraph compile specs/cliquenet_s3.yaml --backend torch

    cliquegraph compile --all --check
    """
    from cliquegraph.emit.header import origin_lines
    from cliquegraph.files import destination, difference, write_files

    if everything == bool(specs):
        raise UsageError("name the specs to compile, or say --all for every spec in ./specs")
    paths = specs or shipped_specs()
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
                    f"{compilation.network.name}: {target} can hold one"
                )
            if not destination(target).is_relative_to(destination(out)):
                raise UsageError(f"can't write {target}: a link leads out of {out}")
            origin = origin_lines(path, each.name, compilation.options, overrides)
            compiled[target] = (path, compilation.source(each, origin))
    files = {target: source for target, (_, source) in compiled.items()}
    if check:
        differences = {target: difference(target, source) for target, source in files.items()}
        changed = {target for target, found in differences.items() if found}
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
        typer.echo(f"{same} of {len(files)} files are what the specs compile to")
    else:
        for target in files:
            print_written(target, changed=target in changed)
    raise typer.Exit(1 if check and changed else 0)


@app.command()
def check(specs: Specs, as_json: Json = False, overrides: Set = []) -> None:
    """Prove the weight sharing of specs and compare their figures with expect.

    cliquegraph check specs/cliquenet_s3.yaml
    """
    results, codes = zip(*(_checked(path, as_json, overrides) for path in specs), strict=True)
    if as_json:
        print_json(list(results))
    raise typer.Exit(max(codes))


def _checked(path: str, as_json: bool, overrides: list[str]) -> tuple[dict[str, Any], int]:
    """Check one spec, whatever is wrong with others; return what to print, and an exit code."""
    from cliquegraph.cli.tables import summary as report

    result: report.Json = {"ok": False}
    try:
        compilation = compilation_of(path, overrides)
        result = report.proof_json(compilation)
        if not as_json:
            console = console_of()
            console.print(report.proof_table(compilation))
            if compilation.comparisons:
                console.print(report.expect_table(compilation))
        compilation.require_expected()
    except CliqueGraphError as error:
        if not as_json:
            print_error(error)
        diagnostics = [each.to_json() for each in error.diagnostics]
        return {"spec": path, **result, "diagnostics": diagnostics}, error.exit_code
    return {"spec": path, **result}, 0 if result["ok"] else 1


@app.command()
def summary(
    specs: Specs,
    steps: Annotated[bool, typer.Option("--steps", help="Also a row for each update.")] = False,
    level: Level = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Predict the memory of a training step in PyTorch.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images in the batch of --memory; 1.", min=1)
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="What --memory computes in; float32, float64, bfloat16, float16."
        ),
    ] = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Count parameters, MACs, FLOPs, activations and memory of specs; several: a row for each.

    cliquegraph summary specs/cliquenet_s3.yaml

    cliquegraph summary specs/*.yaml

    cliquegraph summary specs/cliquenet_s3.yaml --memory --batch 32 --dtype bfloat16
    """
    from cliquegraph.cli.tables import summary as report
    from cliquegraph.spec.schema import MAX_BATCH, set_by

    if not memory and (batch is not None or dtype is not None):
        raise UsageError("--batch and --dtype are for --memory")
    if batch is not None and batch > MAX_BATCH:
        raise UsageError(f"a batch of {batch} is over {MAX_BATCH:,}; {set_by('MAX_BATCH')}")
    how = (batch or 1, dtype or "float32")
    compilations = [compilation_of(path, overrides, level) for path in specs]
    if as_json:
        found = [report.summary_json(each) for each in compilations]
        if memory:
            for entry, compilation in zip(found, compilations, strict=True):
                entry["memory"] = report.memory_json(compilation, *how)
        print_json(found)
        return
    console = console_of()
    if memory:
        if len(compilations) == 1 or steps:
            for each in compilations:
                console.print(report.memory_table(each, *how, steps=steps))
        console.print(report.levels_table(compilations, *how))
        return
    if len(compilations) > 1 and not steps:
        console.print(report.figures_table(compilations))
        return
    for each in compilations:
        console.print(report.summary_table(each))
        if steps:
            console.print(report.steps_cost_table(each))


@app.command()
def steps(
    spec: Spec,
    block: Block = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print the updates of each block: the paper's Table 1.

    cliquegraph steps specs/cliquenet_k64_t15.yaml --block 1
    """
    from cliquegraph.cli.tables import summary as report
    from cliquegraph.steps.unroll import unroll

    graph = unroll(load_spec(spec, overrides))
    blocks = graph.blocks if block is None else (graph.block(block),)
    if as_json:
        typer.echo(json.dumps(report.steps_json(blocks), indent=2))
        return
    console = console_of()
    for each in blocks:
        console.print(report.steps_table(each, f"{graph.network.name}, block {each.index}"))


@app.command()
def ir(
    spec: Spec,
    level: Level = None,
    output: Annotated[
        str, typer.Option("--format", help="text, or json: networkx node-link data.")
    ] = "text",
    inference: Inference = False,
    overrides: Set = [],
) -> None:
    """Print the op graph.

    cliquegraph ir specs/quickstart.yaml

    cliquegraph ir specs/quickstart.yaml --format json
    """
    from cliquegraph.ir.node_link import to_json
    from cliquegraph.ir.printer import print_graph

    if output not in ("text", "json"):
        raise UsageError(f"--format is text or json, not {output!r}")
    graph = compilation_of(spec, overrides, level, inference).graph
    if output == "json":
        typer.echo(json.dumps(to_json(graph), indent=1))
    else:
        typer.echo(print_graph(graph), nl=False)


@app.command()
def render(
    spec: Spec,
    other: Annotated[
        str | None,
        typer.Argument(help="With --diff: what to compare with.", metavar="SPEC"),
    ] = None,
    output: Annotated[
        str,
        typer.Option("-o", "--out", help="FILE.svg, .png, .pdf, .dot, .json or .html; - prints."),
    ] = "-",
    view: Annotated[
        str, typer.Option("--view", help="loop (Figure 1), steps (Table 1) or network (Figure 2).")
    ] = "loop",
    block: Block = None,
    stage: Annotated[
        int | None, typer.Option("--stage", "-s", help="Only this stage, from 1.", min=1)
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="Default: by the file's suffix; svg for -.")
    ] = None,
    difference: Annotated[
        bool, typer.Option("--diff", help="Mark what the second spec has more, less or else.")
    ] = False,
    overrides: Set = [],
) -> None:
    """Draw the clique, its steps or the network.

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
        raise UsageError("--diff compares two specs: name both, or leave it out")
    suffix = form or ("svg" if output == "-" else Path(output).suffix.removeprefix("."))
    steps = unroll(load_spec(spec, overrides))
    compared = None if other is None else unroll(load_spec(other, overrides))
    picture = render(steps, Request(view, block, stage), suffix.lower(), compared)
    if output == "-":
        sys.stdout.buffer.write(picture)
    else:
        write_bytes(Path(output), [picture])
        print_written(output)


@app.command()
def verify(
    spec: Spec,
    backends: Backends = None,
    level: Level = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Images in the batch.", min=2, max=1024)
    ] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and images.", min=0)] = 0,
    inference: Inference = False,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Show by numbers that the interpreter and the backends compute the same network.

    cliquegraph verify specs/quickstart.yaml --backends torch,flax
    """
    from cliquegraph.cli.tables import summary as report
    from cliquegraph.proof.verify import verify as run

    network = load_spec(spec, overrides)
    names = None if backends is None else listed(backends)
    with progress() as say:
        found = run(
            network,
            names,
            level=level_of(level, inference),
            inference=inference,
            seed=seed,
            batch=batch,
            report=say,
        )
    if as_json:
        typer.echo(json.dumps(report.verification_json(found), indent=2))
    else:
        console = console_of()
        console.print(report.verification_table(found))
        difference = [found.first_difference] if found.first_difference else []
        for line in (*found.skipped, *found.unjudged, *difference):
            console.print(line)
    raise typer.Exit(0 if found.ok else 1)


@app.command()
def diff(
    left: Annotated[str, typer.Argument(help="A spec.", metavar="A")],
    right: Annotated[str, typer.Argument(help="Another.", metavar="B")],
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Compare two specs' step graphs and figures; exit 1 where the networks differ.

    cliquegraph diff specs/cliquenet_k36_t15_i_ii.yaml specs/cliquenet_k36_t15_ii_ii.yaml
    """
    from cliquegraph.cli.tables import summary as report
    from cliquegraph.steps.diff import compare_steps

    a, b = (compilation_of(path, overrides) for path in (left, right))
    found = list(compare_steps(a.steps, b.steps))
    data = report.diff_json(a, b, found)
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        names = (a.network.name, b.network.name)
        if names[0] == names[1]:
            names = (printable(left), printable(right))
        console = console_of()
        console.print(report.diff_figures_table(a, b, names))
        if found:
            console.print(report.diff_steps_table(found, names))
        else:
            typer.echo("the steps are the same")
        if data["equal"]:
            typer.echo("the op graphs are the same")
    raise typer.Exit(0 if data["equal"] else 1)


@app.command()
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


@app.command()
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


@app.command()
def backends(as_json: Json = False) -> None:
    """List the installed backends.

    cliquegraph backends
    """
    from cliquegraph.cli.tables import summary as report
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
    made = report.table(None, "backend", "writes", "from", "framework")
    for row in rows:
        made.add_row(*row.values())
    console_of().print(made)
