"""Training from Python: what ``cliquegraph train`` does, with the same defaults."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, passes_of
from cliquegraph.spec.load import Declaration, load

if TYPE_CHECKING:
    from cliquegraph.data import Augmentation, Normalization
    from cliquegraph.training.job import Precision


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A training, or the part of one until it was interrupted.

    Attributes:
        folder: holds ``run.json``, the spec, the model's source, logs, weights and checkpoints.
        metrics: a row for each epoch: ``epoch`` (from 0), ``step``, ``learning_rate``,
            ``train_loss``, ``train_top1`` (fraction), the loss, ``top1`` and ``top5`` of the other
            parts of the data, ``seconds``; ``pandas.DataFrame(run.metrics)`` is a table of them.
        interrupted: whether Ctrl-C stopped it; ``train(…, resume=True)`` continues.
    """

    folder: Path
    metrics: list[dict[str, float]]
    interrupted: bool

    @property
    def best(self) -> Path:
        """The weights of the epoch with the best top-1, for ``load_weights``."""
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights of the last epoch, for ``load_weights``."""
        return self.folder / "last.safetensors"

    def __repr__(self) -> str:
        count = len(self.metrics)
        epochs = f"{count} epoch{'s' * (count != 1)}{', interrupted' * self.interrupted}"
        scores = (self.metrics or [{}])[-1]
        shown = ", ".join(f"{k} {v:.4f}" for k, v in scores.items() if k.endswith("_top1"))
        return f"<TrainedRun {self.folder}: {epochs}{'; ' * bool(shown)}{shown}>"


def train(
    network: Declaration,
    data: str,
    *,
    backend: str | None = None,
    recipe: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    extend: bool = False,
    init: str | os.PathLike[str] | None = None,
    new_head: bool = False,
    freeze: Sequence[str] = (),
    level: int | None = None,
    seed: int = 0,
    validation: float = 0.0,
    subset: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    milestones: Sequence[float] | None = None,
    decay: float | None = None,
    normalization: Normalization | None = None,
    augmentation: Augmentation | None = None,
    stage_weights: Sequence[float] | None = None,
    precision: Precision = "float32",
    devices: int | None = None,
    nodes: int = 1,
    accumulate: int = 1,
    sync_batchnorm: bool = False,
    channels_last: bool | None = None,
    cudnn_benchmark: bool | None = None,
    cuda_graph: bool = False,
    checkpoint_every: int = 1000,
    log_every: int = 10,
    progress: bool = True,
) -> TrainedRun:
    """Train a network by the paper's recipe; the options are those of ``cliquegraph train``.

    Args:
        network: whatever ``load`` takes: a network, a path, a dictionary.
        data: ``NAME`` or ``NAME:PATH`` of a data set: cifar10, cifar100, svhn, fashion-mnist,
            mnist, digits, folder:PATH, synthetic.
        backend: the backend whose model is trained; default: the first installed, PyTorch before
            others.
        recipe: cifar, svhn or imagenet; default: the spec's.
        out: the run's folder; default: ``runs/NAME-BACKEND``.
        resume: continue from the newest checkpoint of the run.
        extend: with ``resume`` and ``epochs``, continue a run that is over, at its last rate.
        init: a file of weights to start from, in any format.
        new_head: with ``init``, start the classifier at random.
        freeze: parts that stay as they are, with their running statistics (``stem``, ``block1``);
            ``backbone`` is all but the classifier.
        level: the -O level; default: the resumed run's, else the device's fastest.
        seed: of the initial weights, the order of images, augmentation and dropout.
        validation: fraction of the training images held out for validation.
        subset: number of training images to use; default: all.
        epochs, batch_size, learning_rate, momentum, weight_decay, decay: of the recipe.
        milestones: fractions of the epochs at which the rate is multiplied by ``decay``.
        normalization, augmentation: of the recipe.
        stage_weights: the weight in the loss of each stage of a readout over time.
        precision: float64, float32, or bfloat16 or float16 (mixed).
        devices: per node; default: every accelerator, or the CPU.
        nodes: number of machines.
        accumulate: number of parts in which a batch is processed.
        sync_batchnorm: normalize by the statistics of all devices' images.
        channels_last, cudnn_benchmark: for PyTorch; default: as in the resumed run, else by the
            device.
        cuda_graph: for PyTorch on one GPU: capture the step as a CUDA graph and replay it.
        checkpoint_every: steps between checkpoints within an epoch.
        log_every: steps between rows of ``steps.csv``.
        progress: print a line for each epoch.

    Raises:
        SpecError: an invalid network.
        UsageError: a wrong option, data that do not fit, or a folder that holds another run.
        DataError: a file of images is damaged.
        BackendError: the backend is not installed, or has no training engine.
        TrainingError: the loss is not finite, or a file can't be written.
    """
    from rich.console import Console

    from cliquegraph.training.display import Terminal
    from cliquegraph.training.extend import extended
    from cliquegraph.training.job import Job, Source
    from cliquegraph.training.jobs import chosen_engine, open_source, recipe_for
    from cliquegraph.training.logs import read_table
    from cliquegraph.training.pretrained import frozen_parts, pretrained
    from cliquegraph.training.run import EPOCHS
    from cliquegraph.training.train import train

    if not isinstance(data, str):
        raise UsageError(
            f"expected the name of a data set, such as 'digits' or 'folder:PATH', found "
            f"{describe_type(data)}"
        )
    if level is not None:
        passes_of(level)  # raises an error if there is no such level
    compilation = Compilation(load(network), DEFAULT_LEVEL if level is None else level)
    chosen = recipe_for(
        compilation,
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        milestones=None if milestones is None else tuple(milestones),
        decay=decay,
        normalisation=normalization,
        augmentation=augmentation,
        stage_weights=None if stage_weights is None else tuple(stage_weights),
    )
    backend = backend or chosen_engine()
    folder = (
        Path(out) if out is not None else Path("runs") / f"{compilation.network.name}-{backend}"
    )
    if extend:
        if not (resume and epochs and milestones is None):
            raise UsageError("extend=True takes resume=True and the new epochs, without milestones")
        chosen = extended(chosen, folder)
    if new_head and init is None:
        raise UsageError("new_head=True is for init: without it every part starts at random")
    initial = None
    if init is not None:
        initial, _ = pretrained(compilation.network, Path(init), new_head=new_head)
    source = Source(data, validation, subset)
    job = Job(
        compilation,
        backend,
        chosen,
        source,
        open_source(compilation, chosen.treatment, source, seed),
        seed=seed,
        precision=precision,
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
        freeze=frozen_parts(compilation, freeze),
    )
    with ExitStack() as stack:
        display = None
        if progress:
            display = stack.enter_context(Terminal(Console(markup=False, highlight=False)))
        session = train(job, folder, resume=resume, display=display)
    metrics = [
        {name: float(value) for name, value in row.items()} for row in read_table(folder / EPOCHS)
    ]
    return TrainedRun(folder, metrics, session.interrupted)
