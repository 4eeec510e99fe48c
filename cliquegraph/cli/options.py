"""Arguments that commands share, and helpers that call the Python API with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cliquegraph.cli.completion import complete_backends, complete_spec
from cliquegraph.diagnostics.errors import CliqueGraphError, UsageError
from cliquegraph.diagnostics.location import printable

if TYPE_CHECKING:
    from rich.console import Console

    from cliquegraph.compiler import Compilation
    from cliquegraph.plugins.backends import Backend
    from cliquegraph.spec.network import NetworkSpec

PIPE_WIDTH = 200  # a pipe has no width of its own; 80 columns would fold every table

_MISUSE: Any = typer.BadParameter.__base__
"""An unknown option or argument, or a missing one."""

JSON = "cliquegraph.json"
"""The key in a command's context that records whether it prints JSON."""


class Commands(TyperGroup):
    """The group of commands; prints their errors."""

    def invoke(self, ctx: Any) -> Any:  # typer carries its own click
        """Run a command."""
        words = [*getattr(ctx, "_protected_args", ()), *ctx.args]  # parsing consumes them
        try:
            return super().invoke(ctx)
        except CliqueGraphError as error:
            print_error(error, as_json=ctx.meta.get(JSON, False))
            ctx.exit(error.exit_code)
        except _MISUSE as error:  # typer prints the usage for people
            if "--json" not in words:
                raise
            print_error(UsageError(error.format_message()), as_json=True)
            ctx.exit(UsageError.exit_code)
        except MemoryError:
            refused = UsageError("there is not enough memory: free some, or use another machine")
            print_error(refused, as_json=ctx.meta.get(JSON, False))
            ctx.exit(refused.exit_code)


def print_error(error: CliqueGraphError, *, as_json: bool = False) -> None:
    """Print an error: for people on standard error, for an editor on standard output."""
    if as_json:
        document = {"diagnostics": [each.to_json() for each in error.diagnostics]}
        typer.echo(json.dumps(document, indent=2))
    else:
        lines = "\n".join(map(str, error.diagnostics)).split("\n")
        typer.echo("\n".join(map(printable, lines)), err=True)


# ---- arguments that commands share -------------------------------------------------------


def _remember_json(context: typer.Context, wanted: bool) -> bool:
    """Record the option for ``Commands``, which prints errors."""
    context.meta[JSON] = wanted
    return wanted


SPEC_HELP = "A spec: a YAML or JSON file, or the name of a shipped one (`cliquegraph specs`)."
SPECS_HELP = "Specs: YAML or JSON files, or names of shipped ones (`cliquegraph specs`)."
Spec = Annotated[str, typer.Argument(help=SPEC_HELP, metavar="SPEC", autocompletion=complete_spec)]
Specs = Annotated[
    list[str], typer.Argument(help=SPECS_HELP, metavar="SPEC...", autocompletion=complete_spec)
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key before the spec is checked, e.g. blocks.0.filters=48 or "
        "blocks.*.dropout=0. Repeatable.",
    ),
]
Level = Annotated[
    int | None,
    typer.Option(
        "-O",
        metavar="LEVEL",
        help="Optimization level. 0, the default, is literal, with the framework's own modules; 1 "
        "and 2 save memory in training; SWA, SyncBatchNorm, torch.fx and partial freezing "
        "require 0 (docs/clients.md).",
        min=0,
    ),
]
Inference = Annotated[
    bool,
    typer.Option("--inference", help="Fold what is constant in evaluation, instead of a level."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON, errors too.", callback=_remember_json)
]
Backends = Annotated[
    str | None,
    typer.Option(
        "--backends",
        help="Comma-separated; default: all that can run.",
        autocompletion=complete_backends,
    ),
]
Block = Annotated[int | None, typer.Option("--block", "-b", help="Only this block, from 1.")]


# ---- from arguments to the API --------------------------------------------------------------


def load_spec(path: str, overrides: Sequence[str]) -> NetworkSpec:
    """Read a spec; imports pydantic lazily."""
    from cliquegraph.spec.load import load

    return load(path, overrides)


def compilation_of(
    path: str, overrides: Sequence[str], level: int | None = None, inference: bool = False
) -> Compilation:
    """Return the compilation of a spec, at an -O level or folded."""
    from cliquegraph.compiler import Compilation

    return Compilation(load_spec(path, overrides), level_of(level, inference), inference)


def level_of(level: int | None, inference: bool) -> int:
    """Return the requested -O level."""
    from cliquegraph.passes.pipeline import DEFAULT_LEVEL

    if inference and level is not None:
        raise UsageError("--inference replaces the level: remove -O")
    return DEFAULT_LEVEL if level is None else level


def specs_of_folder() -> list[str]:
    """Return every spec in ./specs."""
    specs = sorted(str(path) for path in Path("specs").glob("*.yaml"))
    if not specs:
        raise UsageError(
            "--all compiles ./specs/*.yaml, and there are none here: name shipped specs "
            "(`cliquegraph specs`) or files"
        )
    return specs


def listed(names: str) -> list[str]:
    """Return the names in a comma-separated option."""
    return list(dict.fromkeys(name for name in names.split(",") if name))


def backends_of(name: str) -> list[Backend]:
    """Return the backends that ``--backend`` names."""
    from cliquegraph.plugins.backends import find_backend, installed

    names = installed() if name == "all" else listed(name)
    if not names:
        raise UsageError("name a backend, or use --backend all")
    return [find_backend(each) for each in names]


def print_written(path: Path | str, *, changed: bool = True, more: str = "") -> None:
    """Report that a file or a folder was written or is unchanged, with escaped names."""
    typer.echo(printable(f"{'wrote' if changed else 'unchanged'} {path}{more}"))


def print_json(results: list[dict[str, Any]]) -> None:
    """Print results as JSON: a list for several specs, an object for one."""
    typer.echo(json.dumps(results[0] if len(results) == 1 else results, indent=2))


def console_of(*, stderr: bool = False) -> Console:
    """Return a console for standard output: color only on a terminal, and not under NO_COLOR."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, stderr=stderr)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


@contextmanager
def progress() -> Iterator[Any]:
    """Show progress on standard error if it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: None
        return
    with console.status("") as status:
        yield lambda line: status.update(line)
