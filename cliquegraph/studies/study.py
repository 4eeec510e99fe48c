"""Training variants of one network with several seeds: the ablations of section 4.2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from cliquegraph.blocks.registry import blocks_of
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.engines import find_engine
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.training.job import Job
from cliquegraph.training.launch import is_writer
from cliquegraph.training.run import Run
from cliquegraph.training.session import Display
from cliquegraph.training.settle import settle
from cliquegraph.training.train import train


@dataclass(frozen=True)
class Variant:
    """A named variant of a network.

    Attributes:
        name: ``II+II``, ``X=3``.
        overrides: its changes to the study's spec.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The results of a variant over all seeds.

    Attributes:
        variant: the variant.
        parameters, macs: of the network.
        accuracies: top-1 on the last part (test) after the last epoch, by seed.
    """

    variant: Variant
    parameters: int
    macs: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return mean(self.accuracies)

    @property
    def std(self) -> float:
        """Sample standard deviation over the seeds; 0 for one seed."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


_STUDIED = {"stages", "last_stage_updates", "feature"}
"""The keys in which the paper's variants differ."""


def papers_variants(network: NetworkSpec) -> tuple[Variant, ...]:
    """Return (I+I), (I+II) and (II+II), and those that update 1 … n−1 layers in the last stage.

    The paper's X = 0 is (I+I) and X = n is (II+II).

    Raises:
        UsageError: a block is not a clique of at least two layers.
    """
    layers = [len(block.layers) for block in blocks_of(network.blocks)]
    keys = [type(block).model_fields.keys() for block in network.blocks]
    if min(layers) < 2 or not all(each >= _STUDIED for each in keys):
        raise UsageError(f"{network.name} has blocks that are not cliques: use --variant")
    fewest = min(layers)
    return (
        Variant("I+I (X=0)", ("blocks.*.stages=1",)),
        *(
            Variant(f"X={count}", ("blocks.*.stages=2", f"blocks.*.last_stage_updates={count}"))
            for count in range(1, fewest)
        ),
        Variant("I+II", ("blocks.*.stages=2", "blocks.*.feature=1")),
        Variant(f"II+II (X={fewest})", ("blocks.*.stages=2",)),
    )


def study(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    job_of: Callable[[Variant, int], Job],
    out: Path,
    display: Display,
) -> Iterator[Result]:
    """Train every variant with every seed; existing runs are resumed.

    All variants are trained with one seed before the next: a stopped study can compare them.

    Args:
        variants: the variants to compare.
        seeds: of initial weights, batches and dropout.
        job_of: returns the job of a variant with a seed.
        out: folder of the runs.
        display: shows the progress of each run.

    Returns:
        The result of each variant; nothing if the study was stopped.

    Raises:
        UsageError: ``out`` holds runs of another study; two variants have the same name; there
            are no test images.
        SpecError: a variant is not a valid network.
    """
    names = [_folder(variant.name) for variant in variants]
    if len(set(names)) < len(names):
        raise UsageError(f"variants need distinct names: {', '.join(names)}")
    accuracies: dict[str, list[float]] = {variant.name: [] for variant in variants}
    # Validate all variants first, rather than fail after hours of training.
    jobs = {variant.name: job_of(variant, seeds[0]) for variant in variants}
    for variant, job in zip(variants, jobs.values(), strict=True):
        job.compilation.require_proved()
        if "test" not in job.data.parts and "validation" not in job.data.parts:
            raise UsageError(f"{variant.name}: there are no test images: use --validation 0.1")
    last_line: str | None = None
    for seed in seeds:
        for variant, name in zip(variants, names, strict=True):
            folder = out / f"{name}-seed{seed}"
            requested = job_of(variant, seed)
            job, line = settle(requested, find_engine(requested.backend), Run(folder))
            if line and line != last_line and is_writer():  # once for runs with the same choice
                display.say(line)
                last_line = line
            if is_writer():
                display.say(f"{folder.name}:")
            session = train(job, folder, resume=True, display=display)
            if session.interrupted:
                return
            last = Run(folder).curves.accuracy[session.parts[-1]]
            accuracies[variant.name].append(last[-1])
    for variant in variants:
        total = jobs[variant.name].compilation.cost.total
        yield Result(variant, total.parameters, total.macs, tuple(accuracies[variant.name]))


def _folder(name: str) -> str:
    return "".join(each if each.isalnum() or each in "+=." else "-" for each in name).strip("-")
