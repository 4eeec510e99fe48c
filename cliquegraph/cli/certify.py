"""The command ``cliquegraph certify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliquegraph.cli.options import Json, Set, console_of, load_spec, progress
from cliquegraph.diagnostics.errors import UsageError

if TYPE_CHECKING:
    from cliquegraph.proof.certify import Certified


def certify(
    model: Annotated[
        str,
        typer.Argument(
            help="A PyTorch model: package.module:Class or path/model.py:Class, or a function "
            "that returns one.",
            metavar="MODULE:CLASS",
        ),
    ],
    spec: Annotated[str, typer.Argument(help="A spec, YAML or JSON.", metavar="SPEC")],
    weights_map: Annotated[
        str | None,
        typer.Option(
            "--weights-map",
            metavar="MAP",
            help="Which tensors are which: official, torchvision, or a YAML file. Default: the "
            "names of a generated file.",
        ),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(
            "--args", metavar="YAML", help="Arguments of the class, '{layers: 4, bias: false}'."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="HEIGHT[xWIDTH]",
            help="Of the images, or `declared`; default: the smallest that the network takes.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the certificate to a file, JSON.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of primes and all random numbers.", min=0)
    ] = 0,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Certify that a PyTorch model written by hand is the declared network.

    The model's code IS EXECUTED: it is imported, built and called; run only code that you trust.
    Its program is evaluated exactly at random points of prime fields and compared with the spec, as
    `prove` does: logits, running statistics and gradients. On a difference the exit code is 1, and
    the first update that differs is named, with the reads that it has and those that it should
    have. See docs/proof.md.

    cliquegraph certify torchvision.models:resnet18 specs/resnet18.yaml --weights-map torchvision

    cliquegraph certify my/model.py:CliqueNet specs/quickstart.yaml --weights-map my/map.yaml
    """
    from cliquegraph.cli.tables.certify import notes, result_table
    from cliquegraph.proof.certificate import certified_document

    found = _certify(model, spec, weights_map, arguments, size, seed, overrides)
    document = certified_document(found, spec, overrides)
    if out is not None:
        from cliquegraph.files import write_files

        write_files({out: json.dumps(document, indent=2) + "\n"})
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        console = console_of()
        if not found.findings:
            console.print(result_table(found))
        for line in notes(found):
            console.print(line)
        if out is not None:
            console.print(f"wrote {out}")
    raise typer.Exit(0 if found.ok else 1)


def _certify(
    model: str,
    spec: str,
    weights_map: str | None,
    arguments: str | None,
    size: str | None,
    seed: int,
    overrides: list[str],
) -> Certified:
    from cliquegraph.proof.certify import certify as compare
    from cliquegraph.proof.models import load_model

    network = load_spec(spec, overrides)
    image = network.input
    wanted = _size(size, (image.height, image.width))
    built = load_model(model, _arguments(arguments))
    with progress() as say:
        return compare(network, built, weights_map, name=model, size=wanted, seed=seed, report=say)


def _arguments(text: str | None) -> dict[str, Any]:
    """Keyword arguments, as YAML."""
    if text is None:
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe").load(text)
    except (YAMLError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UsageError(f"--args {text!r}: expected a YAML mapping, '{{layers: 4, bias: false}}'")
    return found


def _size(text: str | None, declared: tuple[int, int]) -> tuple[int, int] | None:
    if text is None:
        return None
    if text == "declared":
        return declared
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise UsageError(f"--size {text}: expected HEIGHT, HEIGHTxWIDTH or declared")
    return int(sides[0]), int(sides[-1])
