"""Options that the commands share which train and which use what was trained."""

from __future__ import annotations

from typing import Annotated

import typer

from cliquegraph.cli.completion import complete_data, complete_engine

DATA_HELP = "cifar10, cifar100, svhn, fashion-mnist, mnist, digits, folder:PATH, synthetic."
Data = Annotated[
    str,
    typer.Option("--data", metavar="NAME[:PATH]", help=DATA_HELP, autocompletion=complete_data),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="torch or flax; default: torch if PyTorch is installed, else the first that is.",
        autocompletion=complete_engine,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random choices.")]
Validation = Annotated[
    float,
    typer.Option("--validation", min=0, max=0.9, help="Fraction of training images held out."),
]
Subset = Annotated[
    int | None, typer.Option("--subset", min=1, help="Number of images to train on.")
]
TrainingLevel = Annotated[
    int | None,
    typer.Option(
        "-O",
        metavar="LEVEL",
        help="Optimization level; default: the resumed run's, else the device's fastest by the "
        "measurements in docs/optimiser.md.",
        min=0,
    ),
]
ChannelsLast = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--no-channels-last",
        rich_help_panel="Devices",
        help="Store maps channels-last (PyTorch); default: as in the resumed run, "
        "else channels-last.",
    ),
]
CudnnBenchmark = Annotated[
    bool | None,
    typer.Option(
        "--cudnn-benchmark/--no-cudnn-benchmark",
        rich_help_panel="Devices",
        help="Let cuDNN time its algorithms in the first step and use the fastest (PyTorch); "
        "default on a GPU: as in the resumed run, else yes.",
    ),
]
CudaGraph = Annotated[
    bool,
    typer.Option(
        "--cuda-graph",
        rich_help_panel="Devices",
        help="Capture the training step as a CUDA graph and replay it: for small networks, whose "
        "time goes into launching kernels (PyTorch, one GPU).",
    ),
]
