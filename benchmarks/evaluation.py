"""Evaluation: images per second of the forward pass, batch normalization folded or not.

    python benchmarks/evaluation.py --output
    python benchmarks/evaluation.py --backend flax --output

The literal hand-written model (PyTorch only), every -O level, and the network compiled for
inference, which has no level; in evaluation mode, without gradients.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.harness import (
    Report,
    add_configurations,
    default_batch,
    interleave,
    load_network,
    parser,
    print_table,
    rated,
    run,
    summarise,
    times,
)

FOLDED = "folded"

Builders = dict[str, Callable[[], Any]]


def torch_evaluation(arguments: argparse.Namespace) -> None:
    import torch

    from benchmarks import torch_runs as runs

    configurations = runs.configurations(arguments)
    repeats = arguments.repeats or (5 if runs.CUDA else 1)
    report = Report(arguments, f"evaluation_torch_{runs.DEVICE.type}", repeats=repeats)

    def seconds(model: Any, images: Any, configuration: runs.Configuration) -> float:
        with torch.no_grad(), configuration.autocast():
            return runs.timed(lambda: model(images), repeats)

    for name in arguments.networks:
        network = load_network(name)
        count = arguments.batch or default_batch(network, runs.CUDA)
        builders: Builders = runs.builders(network, arguments.levels)
        builders[FOLDED] = partial(runs.generated_model, network, inference=True)
        for configuration in configurations:
            torch.compiler.reset()  # the literal model's code is the same for each configuration
            images, _ = configuration.batch(network, count)
            calls = {
                variant: partial(
                    seconds, configuration.prepare(build().eval()), images, configuration
                )
                for variant, build in builders.items()
            }
            summary = summarise(interleave(calls, arguments.rounds), baseline=runs.LITERAL)
            variants = rated(summary, count)
            rows = {variant: times(row) for variant, row in variants.items()}
            print_table(f"{name}, {configuration}, evaluation, batch {count}", rows)
            report.add(
                {
                    "network": name,
                    **configuration.described(),
                    "batch": count,
                    "variants": variants,
                }
            )


def flax_evaluation(arguments: argparse.Namespace) -> None:
    from benchmarks import flax_runs as runs

    repeats = arguments.repeats or (1 if runs.ON_CPU else 5)
    report = Report(arguments, f"evaluation_flax_{runs.DEVICE}", repeats=repeats)
    for name in arguments.networks:
        network = load_network(name)
        count = arguments.batch or default_batch(network, not runs.ON_CPU)
        images, _ = runs.batch(network, count)
        for dtype in runs.dtypes(arguments):
            build = partial(runs.generated_model, network, dtype=dtype)
            builders: Builders = {f"O{level}": partial(build, level) for level in arguments.levels}
            builders[FOLDED] = partial(build, inference=True)
            with runs.precision(dtype):
                programs = {
                    variant: runs.evaluation_program(make(), images)
                    for variant, make in builders.items()
                }
            calls = {
                variant: partial(program.seconds, repeats) for variant, program in programs.items()
            }
            samples = interleave(calls, arguments.rounds)
            variants = rated(summarise(samples, baseline=next(iter(programs))), count)
            rows = {variant: times(row) for variant, row in variants.items()}
            print_table(f"{name}, {dtype}, evaluation, batch {count}", rows)
            report.add({"network": name, "dtype": dtype, "batch": count, "variants": variants})


def main() -> None:
    found = parser(__doc__, rounds=15)
    add_configurations(found, "no", "whole")
    arguments = found.parse_args()
    {"torch": torch_evaluation, "flax": flax_evaluation}[arguments.backend](arguments)


if __name__ == "__main__":
    run(main)
