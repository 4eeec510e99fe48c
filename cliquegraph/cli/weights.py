"""The commands ``cliquegraph weights ...``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cliquegraph.cli.completion import complete_format
from cliquegraph.cli.options import (
    Block,
    Inference,
    Json,
    Level,
    Set,
    Spec,
    console_of,
    load_spec,
    print_written,
)
from cliquegraph.diagnostics.errors import UsageError

weights = typer.Typer(
    name="weights",
    help="Weights: conversion between backends, levels, and the authors' or torchvision's files.",
    no_args_is_help=True,
)


_File = Annotated[
    Path,
    typer.Argument(help="safetensors, or a file written by torch.save.", metavar="FILE"),
]
_From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Format of the file: canonical, official, torchvision or a backend's; default: from "
        "its metadata, or inferred from its tensors.",
        autocompletion=complete_format,
    ),
]
_Ignore = Annotated[
    bool,
    typer.Option(
        "--ignore-digest",
        help="Accept matching tensors from a file for another network.",
    ),
]


@weights.command()
def convert(
    spec: Spec,
    source: Annotated[Path, typer.Argument(help="The file to read.", metavar="IN")],
    target: Annotated[Path, typer.Argument(help="The file to write.", metavar="OUT")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Format to write: canonical, torchvision or a backend's.",
            autocompletion=complete_format,
        ),
    ],
    format: _From = None,
    level: Level = None,
    source_level: Annotated[
        int | None,
        typer.Option(
            "--from-level", metavar="LEVEL", help="Reject IN if it is for another -O level.", min=0
        ),
    ] = None,
    inference: Inference = False,
    ignore_digest: _Ignore = False,
    overrides: Set = [],
) -> None:
    """Write weights in another format; -O is the level of the model that OUT is for.

    The level of IN is inferred from its tensors.

    cliquegraph weights convert specs/cliquenet_s3.yaml s3.pth.tar s3.safetensors --to canonical

    cliquegraph weights convert specs/cliquenet_s3.yaml s3.safetensors flax.safetensors --to flax
    """
    from cliquegraph.emit.words import engineering
    from cliquegraph.weights import convert_weights

    done = convert_weights(
        load_spec(spec, overrides),
        source,
        target,
        to=to,
        format=format,
        level=level,
        source_level=source_level,
        inference=inference,
        ignore_digest=ignore_digest,
    )
    size = f"{done.tensors} tensors, {engineering(done.size)}B"
    print_written(target, more=f": {done.target}, {size}, from {done.source}")
    if done.not_finite:
        shown = ", ".join(done.not_finite[:10])
        typer.echo(
            f"warning: {len(done.not_finite)} tensors hold NaN or infinity: {shown}", err=True
        )


@weights.command()
def show(
    spec: Spec,
    file: _File,
    format: _From = None,
    ignore_digest: _Ignore = False,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print the canonical tensors of a file: shape, mean, std, min, max, NaN.

    cliquegraph weights show specs/cliquenet_s3.yaml s3.safetensors
    """
    from cliquegraph.cli.tables.weights import weights_json, weights_table
    from cliquegraph.weights import open_weights
    from cliquegraph.weights.describe import describe

    network = load_spec(spec, overrides)
    with open_weights(network, file, format, ignore_digest=ignore_digest) as found:
        rows = list(describe(found))
        title = f"{network.name}: {file.name} ({found.format})"
    if as_json:
        typer.echo(json.dumps(weights_json(rows), indent=2))
    else:
        console_of().print(weights_table(rows, title))


@weights.command()
def heatmap(
    arguments: Annotated[
        list[str],
        typer.Argument(help="Pairs of a spec and its weights.", metavar="SPEC FILE..."),
    ],
    output: Annotated[Path, typer.Option("-o", "--out", help="FILE.svg, .png or .html")],
    block: Block = None,
    format: _From = None,
    ignore_digest: _Ignore = False,
    overrides: Set = [],
) -> None:
    """Draw mean |W(i→j)| of each block, a column for each network: Figure 5 of the paper.

    cliquegraph weights heatmap specs/cliquenet_s3.yaml s3.safetensors -o s3.svg

    cliquegraph weights heatmap dense.yaml dense.safetensors s3.yaml s3.safetensors -o figure5.html
    """
    from cliquegraph.draw.heat import draw_heat
    from cliquegraph.files import write_bytes
    from cliquegraph.weights.heat import network_heat

    if len(arguments) % 2:
        raise UsageError("name a weights file after each spec")
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    found = [
        network_heat(
            load_spec(spec, overrides), file, block, format=format, ignore_digest=ignore_digest
        )
        for spec, file in pairs
    ]
    picture = draw_heat(found, output.suffix.removeprefix(".").lower())
    write_bytes(output, [picture])
    print_written(output)


@weights.command()
def check(
    spec: Spec,
    file: _File,
    against: Annotated[
        str, typer.Option("--against", help="Format of the checkpoint; official.")
    ] = "official",
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Compare a spec with the network implied by a checkpoint's shapes; exit with 1 if they differ.

    cliquegraph weights check specs/cliquenet_s3.yaml s3.pth.tar --against official
    """
    from cliquegraph.cli.tables.weights import differences_json, differences_table
    from cliquegraph.weights import OFFICIAL, check_official

    if against != OFFICIAL:
        raise UsageError(
            f"--against {against}: specs can be inferred only from official checkpoints"
        )
    found = check_official(load_spec(spec, overrides), file)
    if as_json:
        typer.echo(json.dumps(differences_json(found), indent=2))
    elif found:
        console_of().print(differences_table(found, file.name, spec))
    else:
        typer.echo(f"{spec} matches {file}")
    raise typer.Exit(1 if found else 0)


@weights.command()
def infer(
    file: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint of the authors or with torchvision's names.", metavar="FILE"
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write to a file instead of standard output.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The network's name; default: derived from the output file."),
    ] = None,
) -> None:
    """Write the spec implied by a checkpoint: the authors', or one with torchvision's names.

    cliquegraph weights infer fine_tuned.pth.tar -o fine_tuned.yaml

    cliquegraph weights infer resnet50.pth
    """
    from cliquegraph.files import write_files
    from cliquegraph.weights import inferred_text

    if output is not None and output.exists() and file.exists() and output.samefile(file):
        raise UsageError(f"{output} is the checkpoint itself")
    text = inferred_text(file, name, output)
    if output is None:
        typer.echo(text, nl=False)
    else:
        written = write_files({output: text})
        print_written(output, changed=output in written)
