"""One training, as it was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from cliquegraph.compiler import Compilation
from cliquegraph.data import Dataset
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.training.recipe import Recipe

Precision = Literal["float64", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Source:
    """Which images.

    Attributes:
        reference: ``NAME[:PATH]`` of a data set.
        validation: share of the training images that is held back.
        subset: how many of the training images; None takes all.

    Bounds are checked where a source is read from a file.
    """

    reference: str
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    subset: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class Job:
    """What is trained, on what, and how.

    Attributes:
        compilation: the network at its -O level.
        backend: whose model.
        recipe: the recipe.
        source, data: the images.
        seed: of the first weights, the order of images, augmentation and dropout.
        precision: of the arithmetic; weights are kept in float32, or float64 for ``float64``.
            ``bfloat16`` and ``float16`` are mixed.
        devices: in each node; None: every accelerator, or the processor.
        nodes: machines.
        accumulate: parts that a rank's share of a batch is run in, one after the other.
        sync_batchnorm: normalise by the statistics of the whole batch over all devices.
        checkpoint_every: steps between checkpoints within an epoch.
        log_every: steps between rows of ``steps.csv``.
        any_level: nobody asked for the compilation's -O level: take that of the resumed run, or
            the engine's choice.
        channels_last: hold maps channels-last in memory; None: as the resumed run does, or the
            engine's choice.
        cudnn_benchmark: let cuDNN time its algorithms and take the fastest; None: likewise.
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

    def __post_init__(self) -> None:
        for name in ("nodes", "accumulate", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.devices is not None and self.devices < 1:
            raise UsageError(f"devices must be 1 or more, not {self.devices}")

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must have alike, JSON."""
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
            # Last digits depend on it. An engine of one memory format alone leaves it open.
            **({} if self.channels_last is None else {"channels_last": self.channels_last}),
        }

    def share(self, ranks: int) -> int:
        """Return how many images of a batch one part of a rank's share has.

        Raises:
            UsageError: the batch can't be divided evenly.
        """
        parts, batch = ranks * self.accumulate, self.recipe.batch_size
        if batch % parts:
            raise UsageError(
                f"a batch of {batch} can't be divided by {ranks} devices × {self.accumulate} "
                f"accumulated parts: say --batch-size {parts * -(-batch // parts)}"
            )
        return batch // parts
