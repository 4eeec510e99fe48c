"""The commands that print a network and its properties."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cliquegraph.cli.completion import complete_spec, one_of
from cliquegraph.cli.options import (
    SPEC_HELP,
    Block,
    Inference,
    Json,
    Level,
    Set,
    Spec,
    Specs,
    compilation_of,
    console_of,
    load_spec,
    print_json,
)
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.diagnostics.location import printable


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
            "--dtype",
            help="Dtype for --memory; float32, float64, bfloat16 or float16.",
            autocompletion=one_of("float32", "float64", "bfloat16", "float16"),
        ),
    ] = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Count parameters, MACs, FLOPs, activations and memory; a row for each of several specs.

    cliquegraph summary specs/cliquenet_s3.yaml

    cliquegraph summary specs/*.yaml

    cliquegraph summary specs/cliquenet_s3.yaml --memory --batch 32 --dtype bfloat16
    """
    from cliquegraph.cli.tables.memory import levels_table, memory_json, memory_table
    from cliquegraph.spec.schema import MAX_BATCH, set_by
    from cliquegraph.tables.summary import (
        figures_table,
        steps_cost_table,
        summary_json,
        summary_table,
    )

    if not memory and (batch is not None or dtype is not None):
        raise UsageError("--batch and --dtype are for --memory")
    if batch is not None and batch > MAX_BATCH:
        raise UsageError(f"a batch of {batch} exceeds {MAX_BATCH:,}; {set_by('MAX_BATCH')}")
    how = (batch or 1, dtype or "float32")
    compilations = [compilation_of(path, overrides, level) for path in specs]
    if as_json:
        summaries = [summary_json(each) for each in compilations]
        if memory:
            for entry, compilation in zip(summaries, compilations, strict=True):
                entry["memory"] = memory_json(compilation, *how)
        print_json(summaries)
        return
    console = console_of()
    if memory:
        if len(compilations) == 1 or steps:
            for each in compilations:
                console.print(memory_table(each, *how, steps=steps))
        console.print(levels_table(compilations, *how))
        return
    if len(compilations) > 1 and not steps:
        console.print(figures_table(compilations))
        return
    for each in compilations:
        console.print(summary_table(each))
        if steps:
            console.print(steps_cost_table(each))


def steps(
    spec: Spec,
    block: Block = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print the updates of each block: the paper's Table 1.

    cliquegraph steps specs/cliquenet_k64_t15.yaml --block 1
    """
    from cliquegraph.cli.tables.steps import steps_json, steps_table
    from cliquegraph.steps.unroll import unroll

    graph = unroll(load_spec(spec, overrides))
    blocks = graph.blocks if block is None else (graph.block(block),)
    if as_json:
        typer.echo(json.dumps(steps_json(blocks), indent=2))
        return
    console = console_of()
    for each in blocks:
        console.print(steps_table(each, f"{graph.network.name}, block {each.index}"))
        if drawn := each.declared.words.drawn:
            console.print(f"drawn: {drawn}", soft_wrap=True, markup=False)


def ir(
    spec: Spec,
    level: Level = None,
    output: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, or json: networkx node-link data.",
            autocompletion=one_of("text", "json"),
        ),
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


def diff(
    left: Annotated[str, typer.Argument(help=SPEC_HELP, metavar="A", autocompletion=complete_spec)],
    right: Annotated[
        str, typer.Argument(help="Another.", metavar="B", autocompletion=complete_spec)
    ],
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Compare two specs' step graphs and figures; exit 1 where the networks differ.

    cliquegraph diff specs/cliquenet_k36_t15_i_ii.yaml specs/cliquenet_k36_t15_ii_ii.yaml
    """
    from cliquegraph.cli.tables.diff import diff_figures_table, diff_json, diff_steps_table
    from cliquegraph.steps.diff import compare_steps

    a, b = (compilation_of(path, overrides) for path in (left, right))
    differences = list(compare_steps(a.steps, b.steps))
    data = diff_json(a, b, differences)
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        names = (a.network.name, b.network.name)
        if names[0] == names[1]:
            names = (printable(left), printable(right))
        console = console_of()
        console.print(diff_figures_table(a, b, names))
        if differences:
            console.print(diff_steps_table(differences, names))
        else:
            typer.echo("the steps are the same")
        if data["equal"]:
            typer.echo("the op graphs are the same")
    raise typer.Exit(0 if data["equal"] else 1)
