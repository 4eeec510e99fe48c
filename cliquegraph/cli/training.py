"""The commands that train: ``train`` and ``study``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliquegraph.cli.completion import (
    complete_data,
    complete_precision,
    complete_recipe,
)
from cliquegraph.cli.fine_tuning import Freeze, Init, NewHead, frozen, initial_weights
from cliquegraph.cli.options import (
    Json,
    Set,
    Spec,
    compilation_of,
    console_of,
    load_spec,
    print_json,
    print_written,
)
from cliquegraph.cli.training_options import (
    DATA_HELP,
    ChannelsLast,
    CudaGraph,
    CudnnBenchmark,
    Data,
    Engine,
    Seed,
    Subset,
    TrainingLevel,
    Validation,
)
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.training.jobs import chosen_engine, open_source, recipe_for

if TYPE_CHECKING:
    from cliquegraph.studies.study import Variant
    from cliquegraph.training.job import Job, Precision
    from cliquegraph.training.recipe import Recipe


_RECIPE = "Recipe (overrides the spec's)"
_DEVICES = "Devices"


def train_command(
    spec: Spec,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME[:PATH]",
            help=f"{DATA_HELP} Required unless --plot.",
            autocompletion=complete_data,
        ),
    ] = None,
    backend: Engine = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="cifar, svhn or imagenet; default: the spec's.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder; default: runs/NAME-BACKEND.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the run's newest checkpoint.")
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help="With --resume and more --epochs: train those, too, at the last learning rate.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw the learning rate to FILE.svg, .png or .html; don't train."
        ),
    ] = None,
    level: TrainingLevel = None,
    seed: Seed = 0,
    validation: Validation = 0.0,
    subset: Subset = None,
    epochs: Annotated[int | None, typer.Option(min=1, rich_help_panel=_RECIPE)] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_RECIPE, help="Per step, over all devices."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, rich_help_panel=_RECIPE)] = None,
    momentum: Annotated[float | None, typer.Option(min=0, rich_help_panel=_RECIPE)] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_RECIPE)] = None,
    milestones: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_RECIPE, help="Fractions of the epochs where the rate falls: 0.5,0.75."
        ),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(min=0, rich_help_panel=_RECIPE, help="Factor of the rate at each."),
    ] = None,
    normalisation: Annotated[
        str | None,
        typer.Option(
            "--normalization",
            "--normalisation",
            rich_help_panel=_RECIPE,
            help="standard, unit or imagenet.",
        ),
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(rich_help_panel=_RECIPE, help="none, pad_crop_flip or resized_crop_flip."),
    ] = None,
    stage_weights: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_RECIPE,
            help="Weight in the loss of each stage of a readout over time: 0,0,1.",
        ),
    ] = None,
    init: Init = None,
    new_head: NewHead = False,
    freeze: Freeze = "",
    precision: Annotated[
        str,
        typer.Option(
            rich_help_panel=_DEVICES,
            help="float64, float32, bfloat16 or float16 (mixed).",
            autocompletion=complete_precision,
        ),
    ] = "float32",
    devices: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_DEVICES, help="Per node; default: every GPU."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, rich_help_panel=_DEVICES)] = 1,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1,
            rich_help_panel=_DEVICES,
            help="Parts in which a batch is processed, to save memory.",
        ),
    ] = 1,
    sync_batchnorm: Annotated[
        bool,
        typer.Option(
            "--sync-batchnorm",
            rich_help_panel=_DEVICES,
            help="Normalize by the statistics of all devices' images.",
        ),
    ] = False,
    channels_last: ChannelsLast = None,
    cudnn_benchmark: CudnnBenchmark = None,
    cuda_graph: CudaGraph = False,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between checkpoints in an epoch.")
    ] = 1000,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between rows of steps.csv.")] = 10,
    overrides: Set = [],
) -> None:
    """Train a network by the paper's recipe.

    cliquegraph train specs/quickstart.yaml --data digits --epochs 20

    cliquegraph train specs/quickstart.yaml --data digits --epochs 20 --resume

    cliquegraph train specs/quickstart.yaml --data digits --epochs 30 --resume --extend

    cliquegraph train specs/resnet18.yaml --data folder:photos --set classifier.classes=5 --init
    resnet18.pth --freeze backbone
    """
    from cliquegraph.training.extend import extended
    from cliquegraph.training.job import Job, Source
    from cliquegraph.training.launch import is_writer

    if extend and not (resume and epochs and milestones is None):
        raise UsageError(
            "--extend takes --resume and the new number of --epochs, without --milestones"
        )
    compilation = compilation_of(spec, overrides, level)
    chosen = recipe_for(
        compilation,
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        milestones=_numbers(milestones, "--milestones are fractions of the epochs, 0.5,0.75"),
        decay=decay,
        normalisation=normalisation,
        augmentation=augmentation,
        stage_weights=_numbers(stage_weights, "--stage-weights are numbers, 0,0,1"),
    )
    if plot is not None:
        _plot(chosen, plot)
        return
    if data is None:
        raise UsageError(f"--data names the images to train on: {DATA_HELP.removesuffix('.')}")
    backend = backend or chosen_engine()
    folder = out or Path("runs") / f"{compilation.network.name}-{backend}"
    if extend:
        chosen = extended(chosen, folder)
    source = Source(data, validation, subset)
    parts = frozen(compilation, freeze)  # an error comes before the line on --init
    initial = initial_weights(compilation, init, new_head)
    job = Job(
        compilation,
        backend,
        chosen,
        source,
        open_source(compilation, chosen.treatment, source, seed),
        seed=seed,
        precision=_precision(precision),
        devices=devices,
        nodes=nodes,
        accumulate=accumulate,
        sync_batchnorm=sync_batchnorm,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        any_level=level is None,
        channels_last=channels_last,
        cudnn_benchmark=cudnn_benchmark,
        cuda_graph=cuda_graph,
        initial=initial,
        freeze=parts,
    )
    interrupted = _train(job, folder, resume, overrides)
    if not is_writer():
        return
    if interrupted:
        typer.echo(f"stopped; {_typed()} --resume continues", err=True)
        raise typer.Exit(130)
    print_written(folder, more=": best.safetensors, last.safetensors, metrics.csv")


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


def _typed() -> str:
    """The command line without --resume."""
    return shlex.join(["cliquegraph", *(word for word in sys.argv[1:] if word != "--resume")])


def study(
    spec: Spec,
    data: Data,
    variant: Annotated[
        list[str],
        typer.Option(
            "--variant",
            metavar="NAME:KEY=VALUE,...",
            help="A variant of the spec; default: the paper's (I+I), (I+II), (II+II) and X=1…n-1.",
        ),
    ] = [],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each variant.")] = 3,
    backend: Engine = None,
    recipe: Annotated[str | None, typer.Option("--recipe", autocompletion=complete_recipe)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the runs; default: studies/NAME-BACKEND."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    precision: Annotated[
        str, typer.Option(help="As for train.", autocompletion=complete_precision)
    ] = "float32",
    validation: Validation = 0.0,
    subset: Subset = None,
    level: TrainingLevel = None,
    channels_last: ChannelsLast = None,
    cudnn_benchmark: CudnnBenchmark = None,
    cuda_graph: CudaGraph = False,
    as_json: Json = False,
    overrides: Set = [],
) -> None:
    """Train variants of a network with several seeds; print accuracies, mean ± std.

    Continues where it was stopped.

    cliquegraph study specs/fashion.yaml --data fashion-mnist --subset 5000 --epochs 8
    """
    from cliquegraph.cli.tables import scores as report
    from cliquegraph.studies.study import papers_variants
    from cliquegraph.studies.study import study as run_study
    from cliquegraph.training.display import Terminal
    from cliquegraph.training.job import Job, Source
    from cliquegraph.training.launch import is_writer

    source = Source(data, validation, subset)
    engine = backend or chosen_engine()

    def job_of(chosen: Variant, seed: int) -> Job:
        compilation = compilation_of(spec, [*overrides, *chosen.overrides, "expect={}"], level)
        rule = recipe_for(compilation, recipe, epochs=epochs, batch_size=batch_size)
        images = open_source(compilation, rule.treatment, source, seed=0)
        return Job(
            compilation,
            engine,
            rule,
            source,
            images,
            seed=seed,
            precision=_precision(precision),
            any_level=level is None,
            channels_last=channels_last,
            cudnn_benchmark=cudnn_benchmark,
            cuda_graph=cuda_graph,
        )

    network = load_spec(spec, overrides)
    variants = [_variant(each) for each in variant] or papers_variants(network)
    folder = out or Path("studies") / f"{network.name}-{engine}"
    output = console_of(stderr=as_json)  # standard output is the JSON alone
    with Terminal(output) as display:
        found = list(run_study(variants, range(seeds), job_of, folder, display))
    if not is_writer():
        return
    if not found:
        typer.echo(f"stopped; {_typed()} continues", err=True)
        raise typer.Exit(130)
    if as_json:
        print_json([report.study_json(each) for each in found])
    else:
        console_of().print(report.study_table(found, f"{network.name} on {data}, {seeds} seeds"))


def _variant(text: str) -> Variant:
    from cliquegraph.studies.study import Variant

    name, colon, changes = text.partition(":")
    if not (name and colon and changes):
        raise UsageError(f"a variant is NAME:KEY=VALUE,..., not {text!r}")
    return Variant(name, tuple(changes.split(",")))


def _precision(name: str) -> Precision:
    from cliquegraph.training.job import PRECISIONS

    for each in PRECISIONS:
        if each == name:
            return each
    raise UsageError(f"there is no precision {name!r}; choose from {', '.join(PRECISIONS)}")


def _numbers(text: str | None, rule: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(each) for each in text.split(",") if each.strip())
    except ValueError:
        raise UsageError(f"{rule}, not {text!r}") from None


def _plot(recipe: Recipe, path: Path) -> None:
    from cliquegraph.draw.curves import draw_schedule
    from cliquegraph.files import write_bytes

    rates = [recipe.rate(epoch) for epoch in range(recipe.epochs)]
    title = f"{recipe.name}: {recipe.epochs} epochs, batch {recipe.batch_size}"
    write_bytes(path, [draw_schedule(title, rates, path.suffix.removeprefix(".").lower())])
    parts = ", ".join(f"{rate:.4g} from epoch {first}" for first, rate in recipe.schedule())
    print_written(path, more=f": {parts}")
