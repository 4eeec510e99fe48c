"""Images per second of the input pipeline, and of a training step that consumes them.

    python benchmarks/input_pipeline.py --threads 2 --output

Files in CIFAR-10's binary format, with random pixels, are written to a temporary folder and read
from there, in the page cache; batches are shuffled, normalized and augmented in one thread,
without prefetching. The consumer is the generated PyTorch model of a network, for images of
CIFAR's shape, at the default -O level: forward, cross entropy, backward and an SGD step.
quickstart is the smallest network that the project ships, so it consumes most images. `feeds` is
how many times faster than the model a variant is, in the same round; the requirement is 5.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from benchmarks import torch_runs as runs
from benchmarks.harness import (
    Json,
    Report,
    add_output,
    interleave,
    load_network,
    positive,
    print_table,
    rated,
    run,
    spread,
    summarise,
    times,
    words,
)
from cliquegraph import NetworkSpec
from cliquegraph.data import Augmentation, Batch, Batches, Treatment, open_data
from cliquegraph.data.cifar import CIFAR10, SHAPE

MODEL = "model"


@dataclass
class Pipeline:
    """Batches of consecutive epochs."""

    batches: Batches
    repeats: int

    def __post_init__(self) -> None:
        self._next = self._endless()

    def _endless(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from self.batches.epoch(epoch)

    def seconds(self) -> float:
        """Return the time of one batch, the mean of ``repeats``."""
        start = time.perf_counter()
        for _ in range(self.repeats):
            next(self._next)
        return (time.perf_counter() - start) / self.repeats


def write_cifar10(folder: Path, count: int) -> None:
    """Write files in the binary format, with ``count`` random training images in total."""
    random = np.random.default_rng(0)
    for name in (*CIFAR10.train, CIFAR10.test):
        records = random.integers(0, 256, (count // len(CIFAR10.train), 3073), np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / CIFAR10.meta[1]).write_text("\n".join(map(str, range(10))), encoding="utf-8")


def for_cifar(name: str) -> NetworkSpec:
    """Load a network without dropout for images of CIFAR's shape."""
    network = load_network(name)
    channels, height, width = SHAPE
    size = {"channels": channels, "height": height, "width": width}
    return network.model_copy(
        update={"input": network.input.model_copy(update=size), "expect": type(network.expect)()}
    )


def measured(network: NetworkSpec, folder: str, arguments: argparse.Namespace) -> dict[str, Json]:
    """Time a step of a network and its batches, in turn."""
    size, how = arguments.batch, runs.Configuration()
    model = runs.generated_model(network)
    step = runs.TrainingStep(model, *how.batch(network, size), how, sgd=True)
    timed = {MODEL: step.seconds}
    for augmentation in get_args(Augmentation):
        treatment = Treatment("standard", augmentation)
        data = open_data(f"cifar10:{folder}", shape=SHAPE, classes=10, treatment=treatment)
        timed[augmentation] = Pipeline(data.training(size), arguments.repeats).seconds
    samples = interleave(timed, arguments.rounds)
    feeds = {
        name: {"feeds": spread([a / b for a, b in zip(samples[MODEL], each, strict=True)])}
        for name, each in samples.items()
    }
    return rated(summarise(samples, baseline=MODEL), size, feeds)


def show(title: str, variants: dict[str, Json]) -> None:
    """Print the results."""
    rows = {}
    for name, row in variants.items():
        feeds = row["feeds"]
        rows[name] = {key: times(row)[key] for key in ("images/s", "ms", "quartiles")}
        rows[name]["feeds"] = f"{feeds['median']:.0f}×"
        rows[name]["its quartiles"] = f"{feeds['lower_quartile']:.0f}–{feeds['upper_quartile']:.0f}"
    print_table(title, rows)


def main() -> None:
    arguments = arguments_of()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    report = Report(
        arguments,
        f"input_pipeline_{runs.DEVICE.type}",
        images=arguments.images,
        repeats=arguments.repeats,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_cifar10(Path(folder), arguments.images)
        for name in arguments.networks:
            variants = measured(for_cifar(name), folder, arguments)
            show(f"{name}, 3×32×32, batch {arguments.batch}", variants)
            report.add({"network": name, "batch": arguments.batch, "variants": variants})


def arguments_of() -> argparse.Namespace:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--networks", type=words, default=["quickstart"], help="names of specs/, with 10 classes")
    add("--batch", type=positive, default=64, help="images; default: the recipe's 64")
    add("--images", type=positive, default=50_000, help="training images")
    add("--rounds", type=positive, default=15, help="how often each variant is timed, in turn")
    add("--repeats", type=positive, default=20, help="batches per measurement")
    add("--threads", type=positive, help="PyTorch's threads on the CPU")
    add_output(found)
    return found.parse_args()


if __name__ == "__main__":
    run(main)
