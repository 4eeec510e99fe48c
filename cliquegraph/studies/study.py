"""Variants of one network, trained alike with several seeds: the ablations of section 4.2."""

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
    """A network under a name.

    Attributes:
        name: ``II+II``, ``X=3``.
        overrides: what makes it of the study's spec.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """A variant, trained with every seed.

    Attributes:
        variant: which.
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
        """Standard deviation over the seeds (of a sample); 0 of one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


_STUDIED = {"stages", "last_stage_updates", "feature"}
"""The keys by which the paper's variants differ."""


def papers_variants(network: NetworkSpec) -> tuple[Variant, ...]:
    """Return (I+I), (I+II) and (II+II), and 1 … n−1 layers of the last stage updated again.

    The paper's X = 0 is (I+I) and X = n is (II+II).

    Raises:
        UsageError: the blocks are not cliques of at least two layers.
    """
    layers = [len(block.layers) for block in blocks_of(network.blocks)]
    keys = [type(block).model_fields.keys() for block in network.blocks]
    if min(layers) < 2 or not all(each >= _STUDIED for each in keys):
        raise UsageError(f"{network.name} has blocks that are no cliques: say --variant")
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
    """Train every variant with every seed; a run that is done or begun is gone on with.

    Seeds are gone through first, so that a study that was stopped has compared all variants.

    Args:
        variants: what is compared.
        seeds: of first weights, batches and dropout.
        job_of: the training of a variant with a seed.
        out: folder of the runs.
        display: shows how each run goes.

    Returns:
        The result of each variant; nothing if somebody asked to stop.

    Raises:
        UsageError: ``out`` holds runs of another study; two variants have one name; there are
            no images to test on.
        SpecError: a variant is no network.
    """
    names = [_folder(variant.name) for variant in variants]
    if len(set(names)) < len(names):
        raise UsageError(f"variants need names of their own: {', '.join(names)}")
    found: dict[str, list[float]] = {variant.name: [] for variant in variants}
    # All of them first: the last must not turn out to be none after hours.
    jobs = {variant.name: job_of(variant, seeds[0]) for variant in variants}
    for variant, job in zip(variants, jobs.values(), strict=True):
        job.compilation.require_proved()
        if "test" not in job.data.parts and "validation" not in job.data.parts:
            raise UsageError(f"{variant.name}: nothing is there to test on: say --validation 0.1")
    said: str | None = None
    for seed in seeds:
        for variant, name in zip(variants, names, strict=True):
            folder = out / f"{name}-seed{seed}"
            asked = job_of(variant, seed)
            job, line = settle(asked, find_engine(asked.backend), Run(folder))
            if line and line != said and is_writer():  # once for all runs that are alike
                display.say(line)
                said = line
            if is_writer():
                display.say(f"{folder.name}:")
            session = train(job, folder, resume=True, display=display)
            if session.interrupted:
                return
            last = Run(folder).curves.accuracy[session.parts[-1]]
            found[variant.name].append(last[-1])
    for variant in variants:
        total = jobs[variant.name].compilation.cost.total
        yield Result(variant, total.parameters, total.macs, tuple(found[variant.name]))


def _folder(name: str) -> str:
    return "".join(each if each.isalnum() or each in "+=." else "-" for each in name).strip("-")
