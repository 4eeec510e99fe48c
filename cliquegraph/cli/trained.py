"""The commands for trained networks: scores, predictions, curves, feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliquegraph.cli.completion import complete_recipe, one_of
from cliquegraph.cli.options import (
    Json,
    Level,
    Set,
    Spec,
    compilation_of,
    console_of,
    load_spec,
    print_json,
    print_written,
)
from cliquegraph.cli.training_options import Data, Engine
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.diagnostics.location import printable
from cliquegraph.training.jobs import chosen_engine, open_source

if TYPE_CHECKING:
    from cliquegraph.ir.storage import Array

_Weights = Annotated[Path, typer.Option("--weights", help="Weights, in any format.")]
_Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Recipe whose normalization is used, without a run.",
        autocompletion=complete_recipe,
    ),
]

inspect = typer.Typer(
    name="inspect",
    help="Inspect what a trained network computes for an image.",
    no_args_is_help=True,
)


def evaluate(
    spec: Spec,
    weights: _Weights,
    data: Data,
    backend: Engine = None,
    part: Annotated[
        str,
        typer.Option(
            "--part",
            help="train, validation or test.",
            autocompletion=one_of("train", "validation", "test"),
        ),
    ] = "test",
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Recipe whose normalization replaces the run's.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 100,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: the run's.")] = None,
    validation: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Fraction held out; default: the run's.")
    ] = None,
    subset: Annotated[
        int | None, typer.Option(min=1, help="Number of training images; default: the run's.")
    ] = None,
    level: Level = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print top-1, top-5, loss and the confusion matrix of weights on a data set.

    Of a readout over time, also the accuracy and the MACs of each stage; --set may give the block
    more stages than in training, if stages share all normalizations.

    Images are preprocessed and split as in the run beside the weights.

    cliquegraph evaluate specs/quickstart.yaml --weights runs/quickstart-torch/best.safetensors
    --data digits
    """
    from cliquegraph.analysis.cost import macs_by_stage
    from cliquegraph.cli.tables import scores as report
    from cliquegraph.training.job import Source
    from cliquegraph.training.seen import preprocessing_of, run_beside
    from cliquegraph.training.train import evaluate_stages
    from cliquegraph.weights import read_weights

    compilation = compilation_of(spec, overrides, level)
    tensors = read_weights(compilation.network, weights)
    run = run_beside(weights)
    seen = preprocessing_of(compilation.network, weights, recipe)
    trained = run.facts.data if run else Source(data)
    images = open_source(
        compilation,
        seen.treatment,
        Source(
            data,
            trained.validation if validation is None else validation,
            trained.subset if subset is None else subset,
        ),
        (run.facts.seed if run else 0) if seed is None else seed,
        seen.statistics,
    )
    if part not in images.parts:
        raise UsageError(f"{data} has no part {part!r}; it has {', '.join(images.parts)}")
    batches = images.evaluation(part, batch_size)
    by_stage = evaluate_stages(compilation, backend or chosen_engine(), tensors, batches)
    scores = by_stage[-1]
    macs = macs_by_stage(compilation.lowered)
    if as_json:
        print_json([report.scores_json(scores, images.classes, by_stage, macs)])
        return
    console = console_of()
    console.print(report.confusion_table(scores, images.classes))
    if macs:
        console.print(report.time_table(by_stage, macs))
    console.print(report.scores_line(scores, f"{compilation.network.name} on {data}, {part}"))


def predict(
    spec: Spec,
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE...")],
    weights: _Weights,
    backend: Engine = None,
    recipe: _Recipe = None,
    level: Level = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print the most likely classes of images.

    Classes and normalization are those of the run beside the weights.

    cliquegraph predict specs/quickstart.yaml digit.png --weights
    runs/quickstart-torch/best.safetensors
    """
    from cliquegraph.cli.tables import scores as report
    from cliquegraph.plugins.engines import find_engine
    from cliquegraph.training.seen import preprocessing_of
    from cliquegraph.weights import read_weights

    compilation = compilation_of(spec, overrides, level)
    seen = preprocessing_of(compilation.network, weights, recipe)
    tensors = read_weights(compilation.network, weights)
    classify = find_engine(backend or chosen_engine()).classifier(compilation, tensors, "float32")
    found = [
        (str(path), report.guesses(_of_last_stage(classify(seen.image(path))), seen.classes))
        for path in images
    ]
    if as_json:
        print_json([{"image": name, "guesses": guessed} for name, guessed in found])
    else:
        console_of().print(report.guesses_table(found))


def _of_last_stage(logits: Array) -> Array:
    """The logits of the only image, in the last stage if there are several."""
    *_, last = logits.reshape(-1, logits.shape[-1])
    return last


def curves(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", metavar="RUN...")],
    output: Annotated[Path, typer.Option("-o", "--out", help="FILE.svg, .png or .html")],
) -> None:
    """Draw error and loss of runs over the epochs: Figure 3 of the paper.

    cliquegraph curves runs/quickstart-torch runs/quickstart-flax -o curves.svg
    """
    from cliquegraph.draw.curves import draw_curves
    from cliquegraph.files import write_bytes
    from cliquegraph.training.run import Run

    found = [Run(folder) for folder in runs]
    begun = [run for run in found if run.exists and not run.measured]
    for run in begun if len(begun) < len(found) else ():
        typer.echo(f"{run.folder} has no complete epoch yet: skipped", err=True)
    drawn = [run.curves for run in found if run not in begun or len(begun) == len(found)]
    write_bytes(output, [draw_curves(drawn, output.suffix.removeprefix(".").lower())])
    print_written(output)


@inspect.command()
def features(
    spec: Spec,
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    weights: _Weights,
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="FILE.svg, .png or .html")
    ] = None,
    backend: Engine = None,
    recipe: _Recipe = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Draw the strongest feature map of each stage next to the image: Figure 6 of the paper.

    Prints how much each stage changed the features of its block.

    cliquegraph inspect features specs/quickstart.yaml digit.png --weights
    runs/quickstart-torch/best.safetensors -o features.png
    """
    from cliquegraph.cli.tables import scores as report
    from cliquegraph.draw.features import draw_features
    from cliquegraph.files import write_bytes
    from cliquegraph.studies.stages import stage_maps
    from cliquegraph.training.seen import preprocessing_of
    from cliquegraph.weights import read_weights

    network = load_spec(spec, overrides)
    shown = preprocessing_of(network, weights, recipe).image(image)
    maps = stage_maps(network, backend or chosen_engine(), read_weights(network, weights), shown)
    title = f"{network.name}: {printable(image.name)}"
    if output is not None:
        suffix = output.suffix.removeprefix(".").lower()
        write_bytes(output, [draw_features(title, shown[0], maps, suffix)])
    if as_json:
        print_json([report.stages_json(each) for each in maps])
        return
    console_of().print(report.stages_table(maps, title))
    if output is not None:
        print_written(output)
