"""The command line. It knows no backend by name.

Every command loads its specs, calls one function of the Python API and prints its result as
formatted by ``tables``. ``Commands`` prints errors.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cliquegraph.cli.about import backends, errors, schema
from cliquegraph.cli.certify import certify
from cliquegraph.cli.compile import check, compile_command
from cliquegraph.cli.export import export_command
from cliquegraph.cli.fuzz import fuzz
from cliquegraph.cli.networks import diff, ir, steps, summary
from cliquegraph.cli.options import Commands, print_error
from cliquegraph.cli.prove import prove
from cliquegraph.cli.render import render
from cliquegraph.cli.shipped import init, specs
from cliquegraph.cli.trained import curves, evaluate, inspect, predict
from cliquegraph.cli.training import study, train_command
from cliquegraph.cli.verify import verify
from cliquegraph.cli.weights import weights
from cliquegraph.diagnostics.errors import UsageError

app = typer.Typer(
    cls=Commands,
    name="cliquegraph",
    help="Compile networks of blocks with loops, such as CliqueNet (CVPR 2018), from a short spec.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.add_typer(weights)
app.add_typer(inspect)
app.command("train")(train_command)
app.command("export")(export_command)
command: Callable[..., None]
for command in (evaluate, predict, curves, study, fuzz):
    app.command()(command)
app.command("compile")(compile_command)
for command in (specs, init, check, summary, steps, ir, render, verify, prove, certify, diff):
    app.command()(command)
for command in (schema, errors, backends):
    app.command()(command)


def main() -> None:
    """Run the command line; exit with 0 for success, 1 for a negative answer, 2 for bad input."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show × or → gets an escape, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if hasattr(signal, "SIGPIPE"):
        # End like other tools when the pipe's reader closes it; exit code 1 would be an answer.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # as where it is closed
                sys.stdout.flush()  # at the interpreter's exit, an error would be none of ours
    except OSError as error:
        # Named files raise their own errors; this is standard output. What is left of it goes
        # nowhere, or the interpreter would fail to write it once more.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
