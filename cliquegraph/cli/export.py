"""The command ``export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cliquegraph.cli.options import Json, Set, Spec, load_spec, print_written


def _complete_target(incomplete: str) -> list[str]:
    from cliquegraph.plugins.exporters import exporter_names

    return [name for name in exporter_names() if name.startswith(incomplete)]


def export_command(
    spec: Spec,
    weights: Annotated[Path, typer.Option("--weights", help="Weights, in any format.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="onnx, torch-export or stablehlo.", autocompletion=_complete_target
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe whose normalization is recorded, without a run."),
    ] = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Write a trained network for a runtime, folded, for batches of any size.

    The file is run and compared with the interpreter. Its metadata has the labels and the
    normalization of the run beside the weights.

    cliquegraph export specs/quickstart.yaml --weights runs/quickstart-torch/best.safetensors
    --to onnx -o quickstart.onnx
    """
    from cliquegraph.deployment.export import export

    done = export(load_spec(spec, overrides), weights, to, output, recipe=recipe)
    if as_json:
        files = [str(path) for path in done.files]
        document = {"files": files, "error": done.error, "metadata": done.metadata}
        typer.echo(json.dumps(document, indent=2))
        return
    for path in done.files[:-1]:
        print_written(path)
    more = f": logits within {done.error:.1e} of the interpreter's, relative to the largest"
    print_written(done.files[-1], more=more)
    if done.metadata["mean"] is None:
        typer.echo(
            "no run is beside the weights: the metadata lacks the mean and std of the training "
            "set; --recipe svhn or imagenet records those of a recipe",
            err=True,
        )
