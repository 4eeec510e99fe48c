"""The commands that train, and that use what was trained."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliquegraph.cli_shared import (
    Json,
    Level,
    Set,
    Spec,
    compilation_of,
    console_of,
    load_spec,
    print_json,
)
from cliquegraph.errors import UsageError

if TYPE_CHECKING:
    from cliquegraph.compiler import Compilation
    from cliquegraph.data import Dataset, Statistics
    from cliquegraph.training.job import Job, Source
    from cliquegraph.training.recipe import Recipe


def _complete_engine(incomplete: str) -> list[str]:
    from cliquegraph.emit.backend import entry_points_of
    from cliquegraph.training.engine import GROUP

    return [point.name for point in entry_points_of(GROUP) if point.name.startswith(incomplete)]


def _complete_recipe(incomplete: str) -> list[str]:
    from cliquegraph.training.recipe import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


_Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME[:PATH]",
        help="cifar10, cifar100, svhn, fashion-mnist, mnist, digits, folder:PATH, synthetic.",
    ),
]
_Engine = Annotated[
    str,
    typer.Option("--backend", help="torch or flax.", autocompletion=_complete_engine),
]
_Weights = Annotated[Path, typer.Option("--weights", help="Weights, in any format.")]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything that is drawn.")]
_Validation = Annotated[
    float, typer.Option("--validation", min=0, max=0.9, help="Share of training images held back.")
]
_Subset = Annotated[
    int | None, typer.Option("--subset", min=1, help="Train on so many of the images.")
]
_RECIPE = "Recipe (a change of the spec's)"
_DEVICES = "Devices"


inspect = typer.Typer(
    name="inspect", help="What a trained network makes of an image.", no_args_is_help=True
)


def train_command(
    spec: Spec,
    data: _Data,
    backend: _Engine = "torch",
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="cifar, svhn or imagenet; default: the spec's.",
            autocompletion=_complete_recipe,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder; default: runs/NAME-BACKEND.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the learning rate to FILE.svg or .png; don't train."),
    ] = None,
    level: Level = None,
    seed: _Seed = 0,
    validation: _Validation = 0.0,
    subset: _Subset = None,
    epochs: Annotated[int | None, typer.Option(min=1, rich_help_panel=_RECIPE)] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_RECIPE, help="Of a step, over all devices."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, rich_help_panel=_RECIPE)] = None,
    momentum: Annotated[float | None, typer.Option(min=0, rich_help_panel=_RECIPE)] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_RECIPE)] = None,
    milestones: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_RECIPE, help="Shares of the epochs where the rate falls: 0.5,0.75."
        ),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(min=0, rich_help_panel=_RECIPE, help="The rate's factor at each."),
    ] = None,
    normalisation: Annotated[
        str | None, typer.Option(rich_help_panel=_RECIPE, help="standard, unit or imagenet.")
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(rich_help_panel=_RECIPE, help="none, pad_crop_flip or resized_crop_flip."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            rich_help_panel=_DEVICES, help="float64, float32, bfloat16 or float16 (mixed)."
        ),
    ] = "float32",
    devices: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_DEVICES, help="In a node; default: every GPU."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, rich_help_panel=_DEVICES)] = 1,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1, rich_help_panel=_DEVICES, help="Parts that a batch is run in, for memory."
        ),
    ] = 1,
    sync_batchnorm: Annotated[
        bool,
        typer.Option(
            "--sync-batchnorm",
            rich_help_panel=_DEVICES,
            help="Normalise by the statistics of all devices' images.",
        ),
    ] = False,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints in an epoch.")
    ] = 1000,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between rows of steps.csv.")] = 10,
    overrides: Set = [],
) -> None:
    """Train a network by the paper's recipe.

    cliquegraph train specs/quickstart.yaml --data digits --epochs 20

    cliquegraph train specs/quickstart.yaml --data digits --epochs 20 --resume
    """
    from cliquegraph.training.job import PRECISIONS, Job, Source
    from cliquegraph.training.launch import is_writer

    compilation = compilation_of(spec, overrides, _level(level, backend, sync_batchnorm))
    chosen = _recipe(
        compilation,
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        milestones=_shares(milestones),
        decay=decay,
        normalisation=normalisation,
        augmentation=augmentation,
    )
    if plot is not None:
        _plot(chosen, plot)
        return
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    source = Source(data, validation, subset)
    job = Job(
        compilation,
        backend,
        chosen,
        source,
        open_source(compilation, chosen, source, seed),
        seed,
        precision,
        devices,
        nodes,
        accumulate,
        sync_batchnorm,
        checkpoint_every,
        log_every,
    )
    folder = out or Path("runs") / f"{compilation.network.name}-{backend}"
    interrupted = _train(job, folder, resume, overrides)
    if not is_writer():
        return
    if interrupted:
        typer.echo(f"stopped; {_again()} goes on", err=True)
        raise typer.Exit(130)
    typer.echo(f"wrote {folder}: best.safetensors, last.safetensors, metrics.csv")


def _train(job: Job, folder: Path, resume: bool, overrides: list[str]) -> bool:
    from cliquegraph.training.display import Terminal
    from cliquegraph.training.train import train

    with Terminal(console_of()) as display:
        session = train(
            job,
            folder,
            resume=resume,
            display=display,
            command=sys.argv,
            overrides=overrides,
        )
    return session.interrupted


def _again() -> str:
    command = [Path(sys.argv[0]).name, *(each for each in sys.argv[1:] if each != "--resume")]
    return shlex.join([*command, "--resume"])


def evaluate(
    spec: Spec,
    weights: _Weights,
    data: _Data,
    backend: _Engine = "torch",
    part: Annotated[str, typer.Option("--part", help="train, validation or test.")] = "test",
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Whose normalisation; default: the spec's.")
    ] = None,
    normalisation: Annotated[str | None, typer.Option(help="In place of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    seed: _Seed = 0,
    validation: _Validation = 0.0,
    subset: _Subset = None,
    level: Level = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print top-1, top-5, loss and the confusion matrix of weights on a data set.

    Images are normalised as in the run beside the weights, or by the recipe.

    cliquegraph evaluate specs/quickstart.yaml --weights runs/quickstart-torch/best.safetensors
    --data digits
    """
    from cliquegraph import report_scores as report
    from cliquegraph.checkpoints import read_weights
    from cliquegraph.training.job import Source
    from cliquegraph.training.run import Run
    from cliquegraph.training.train import evaluate

    compilation = compilation_of(spec, overrides, level)
    chosen = _recipe(compilation, recipe, normalisation=normalisation, batch_size=batch_size)
    run = Run(weights.resolve().parent)
    images = open_source(
        compilation,
        chosen,
        Source(data, validation, subset),
        seed,
        run.statistics if run.exists and normalisation is None else None,
    )
    if part not in images.parts:
        raise UsageError(f"{data} has no part {part!r}; it has {', '.join(images.parts)}")
    tensors = read_weights(compilation.network, weights)
    batches = images.evaluation(part, chosen.batch_size)
    scores = evaluate(compilation, backend, tensors, batches)
    if as_json:
        print_json([report.scores_json(scores, images.classes)])
        return
    console = console_of()
    console.print(report.confusion_table(scores, images.classes))
    console.print(report.scores_line(scores, f"{compilation.network.name} on {data}, {part}"))


def predict(
    spec: Spec,
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGE...")],
    weights: _Weights,
    backend: _Engine = "torch",
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Whose normalisation, without a run.")
    ] = None,
    level: Level = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Print the likeliest classes of images.

    Classes and normalisation are those of the run beside the weights.

    cliquegraph predict specs/quickstart.yaml digit.png --weights
    runs/quickstart-torch/best.safetensors
    """
    from cliquegraph import report_scores as report
    from cliquegraph.checkpoints import read_weights
    from cliquegraph.training.engine import find_engine
    from cliquegraph.training.seen import seen_by

    compilation = compilation_of(spec, overrides, level)
    seen = seen_by(compilation.network, weights, recipe)
    tensors = read_weights(compilation.network, weights)
    classify = find_engine(backend).classifier(compilation, tensors, "float32")
    found = [
        (str(path), report.guesses(classify(seen.image(path))[0], seen.classes)) for path in images
    ]
    if as_json:
        print_json([{"image": name, "guesses": guessed} for name, guessed in found])
    else:
        console_of().print(report.guesses_table(found))


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

    read = [Run(folder).curves for folder in runs]
    write_bytes(output, [draw_curves(read, output.suffix.removeprefix("."))])
    typer.echo(f"wrote {output}")


@inspect.command()
def features(
    spec: Spec,
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    weights: _Weights,
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="FILE.svg, .png or .html")
    ] = None,
    backend: _Engine = "torch",
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Whose normalisation, without a run.")
    ] = None,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Draw the strongest feature map of each stage beside the image: Figure 6 of the paper.

    Prints how much each stage changed the features of its block.

    cliquegraph inspect features specs/quickstart.yaml digit.png --weights
    runs/quickstart-torch/best.safetensors -o features.png
    """
    from cliquegraph import report_scores as report
    from cliquegraph.checkpoints import read_weights
    from cliquegraph.draw.features import draw_features
    from cliquegraph.files import write_bytes
    from cliquegraph.stages import stage_maps
    from cliquegraph.training.seen import seen_by

    network = load_spec(spec, overrides)
    shown = seen_by(network, weights, recipe).image(image)
    maps = stage_maps(network, backend, read_weights(network, weights), shown)
    title = f"{network.name}: {image.name}"
    if output is not None:
        suffix = output.suffix.removeprefix(".").lower()
        write_bytes(output, [draw_features(title, shown[0], maps, suffix)])
    if as_json:
        print_json([report.stages_json(each) for each in maps])
        return
    console_of().print(report.stages_table(maps, title))
    if output is not None:
        typer.echo(f"wrote {output}")


def open_source(
    compilation: Compilation,
    recipe: Recipe,
    source: Source,
    seed: int,
    statistics: Statistics | None = None,
) -> Dataset:
    """Return the images of a source, as the network and the recipe want them."""
    from cliquegraph.data import open_data

    image = compilation.network.input
    return open_data(
        source.reference,
        shape=(image.channels, image.height, image.width),
        classes=compilation.network.classifier.classes,
        treatment=recipe.treatment,
        validation=source.validation,
        subset=source.subset,
        seed=seed,
        statistics=statistics,
    )


def _recipe(compilation: Compilation, name: str | None, **changes: Any) -> Recipe:
    from cliquegraph.training.recipe import recipe_of

    return recipe_of(compilation.network, name, **changes)


def _level(level: int | None, backend: str, sync_batchnorm: bool) -> int | None:
    """PyTorch's synchronised normalisation takes the place of whole BatchNorm2d modules."""
    if sync_batchnorm and backend == "torch":
        if level:
            raise UsageError("--sync-batchnorm trains a model of -O0 in PyTorch: leave out -O")
        return 0
    return level


def _shares(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(each) for each in text.split(",") if each.strip())
    except ValueError:
        raise UsageError(f"--milestones are shares of the epochs, 0.5,0.75, not {text!r}") from None


def _plot(recipe: Recipe, path: Path) -> None:
    from cliquegraph.draw.curves import draw_schedule
    from cliquegraph.files import write_bytes

    rates = [recipe.rate(epoch) for epoch in range(recipe.epochs)]
    title = f"{recipe.name}: {recipe.epochs} epochs, batch {recipe.batch_size}"
    write_bytes(path, [draw_schedule(title, rates, path.suffix.removeprefix(".").lower())])
    typer.echo(f"wrote {path}")
