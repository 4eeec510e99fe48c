"""The specification of one training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from cliquegraph.compiler import Compilation
from cliquegraph.data import Dataset
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array
from cliquegraph.training.recipe import Recipe

Precision = Literal["float64", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Source:
    """The choice of images.

    Attributes:
        reference: ``NAME[:PATH]`` of a data set.
        validation: fraction of the training images held out for validation.
        subset: number of training images to use; None for all.

    Bounds are checked when a source is read from a file.
    """

    reference: str
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    subset: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, eq=False)
class Initial:
    """Weights from which a training starts, instead of random ones.

    Attributes:
        file: the file that they are from.
        sha256: of its content.
        tensors: the canonical tensors to set, by name; others are initialized at random.
    """

    file: str
    sha256: str
    tensors: Mapping[str, Array] = field(repr=False)


@dataclass(frozen=True)
class Job:
    """What to train, on what data, and how.

    Attributes:
        compilation: the network at its -O level.
        backend: the backend whose model is trained.
        recipe: the recipe.
        source, data: the images, as chosen and as opened.
        seed: of the initial weights, the order of images, augmentation and dropout.
        precision: of the arithmetic; weights are stored in float32, or float64 for ``float64``.
            ``bfloat16`` and ``float16`` are mixed precision.
        devices: devices per node; None: every accelerator, or the CPU.
        nodes: number of machines.
        accumulate: number of parts in which each rank's share of a batch is processed.
        sync_batchnorm: normalize by the statistics of the whole batch over all devices.
        checkpoint_every: steps between checkpoints within an epoch.
        log_every: steps between rows of ``steps.csv``.
        any_level: the -O level was not requested: use the resumed run's, or the engine's choice.
        channels_last: store maps channels-last; None: as in the resumed run, or the engine's
            choice.
        cudnn_benchmark: let cuDNN time its algorithms and use the fastest; None: likewise.
        cuda_graph: take each step by replaying a CUDA graph of it.
        initial: weights to start from.
        freeze: the parts that stay as they are, ``stem`` or ``block1``: no parameter is trained, no
            running statistic moves, and nothing is dropped in them.
    """

    compilation: Compilation
    backend: str
    recipe: Recipe
    source: Source
    data: Dataset
    seed: int = 0
    precision: Precision = "float32"
    devices: int | None = None
    nodes: int = 1
    accumulate: int = 1
    sync_batchnorm: bool = False
    checkpoint_every: int = 1000
    log_every: int = 10
    any_level: bool = False
    channels_last: bool | None = None
    cudnn_benchmark: bool | None = None
    cuda_graph: bool = False
    initial: Initial | None = None
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("nodes", "accumulate", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise UsageError(f"there is no precision {self.precision!r}; choose from {known}")
        if self.devices is not None and self.devices < 1:
            raise UsageError(f"devices must be 1 or more, not {self.devices}")
        stages, weights = len(self.compilation.stages), self.recipe.stage_weights
        if weights is not None and len(weights) != stages:
            found = f"{stages} stages" if stages else "one stage alone: readout.stages is not all"
            raise UsageError(
                f"{len(weights)} stage weight{'s' * (len(weights) > 1)}, but "
                f"{self.compilation.network.name} reads {found}"
            )

        if self.freeze:
            self._check_frozen()

    def _check_frozen(self) -> None:
        parts = self.compilation.parts
        if unknown := [part for part in self.freeze if part not in parts]:
            raise UsageError(
                f"{self.compilation.network.name} has no part {unknown[0]!r} to freeze; choose "
                f"from {', '.join(parts)}"
            )
        if set(self.freeze) == set(parts):
            raise UsageError("every part is frozen: leave one to train, such as classifier")

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share, JSON."""
        return {
            "network": self.compilation.network.name,
            "digest": self.compilation.lowered.digest(),
            "backend": self.backend,
            "level": self.compilation.level,
            "recipe": {**asdict(self.recipe), "milestones": list(self.recipe.milestones)},
            "data": asdict(self.source),
            "statistics": self.data.statistics.to_json(),
            "classes": list(self.data.classes),
            "images": {part: self.data.evaluation(part, 1).count for part in self.data.parts},
            "seed": self.seed,
            "precision": self.precision,
            "accumulate": self.accumulate,
            "sync_batchnorm": self.sync_batchnorm,
            "init": None if self.initial is None else self.initial.sha256,
            "freeze": sorted(self.freeze),
            # Rounding depends on it. Engines with only one memory format leave it open.
            **({} if self.channels_last is None else {"channels_last": self.channels_last}),
        }

    def require_separate_parts(self) -> None:
        """Raise a ``UsageError`` if parts are to be frozen that share statistics with others."""
        if self.freeze and self.compilation.level:
            raise UsageError(
                "--freeze trains a model of -O0, since parts share running statistics above it: "
                f"leave out -O {self.compilation.level}"
            )

    def share(self, ranks: int) -> int:
        """Return the number of images in one part of a rank's share of a batch.

        Raises:
            UsageError: the batch can't be divided evenly.
        """
        parts, batch = ranks * self.accumulate, self.recipe.batch_size
        if batch % parts:
            raise UsageError(
                f"a batch of {batch} can't be divided by {ranks} devices × {self.accumulate} "
                f"accumulated parts: use --batch-size {parts * -(-batch // parts)}"
            )
        return batch // parts
