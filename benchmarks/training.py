"""Training: the time of a step and the bytes that it saves for backward.

    python benchmarks/training.py --output
    python benchmarks/training.py --backend flax --output

PyTorch: the literal hand-written model (literal.py) and every -O level; on a CUDA device for
fp32, TF32 and bf16, NCHW and channels_last, eager and compiled, with the peak of the allocator
and the number of kernels. Flax: every -O level, jitted, with the memory that XLA reports; on
a CPU -O2 also with the XLA option that keeps the barriers of jax.checkpoint.
A step is forward, cross entropy and backward; dropout is off. `stored` is what autograd saves for
backward, each storage once, without the model's own tensors.
"""

from __future__ import annotations

import argparse

from benchmarks.harness import (
    Json,
    Report,
    add_configurations,
    default_batch,
    interleave,
    load_network,
    megabytes,
    parser,
    print_table,
    rated,
    run,
    significant,
    summarise,
    times,
)


def torch_training(arguments: argparse.Namespace) -> None:
    import torch

    from benchmarks import torch_runs as runs

    configurations = runs.configurations(arguments)
    repeats = arguments.repeats or (5 if runs.CUDA else 1)
    report = Report(
        arguments, f"training_torch_{runs.DEVICE.type}", sgd=arguments.sgd, repeats=repeats
    )
    for name in arguments.networks:
        network = load_network(name)
        count = arguments.batch or default_batch(network, runs.CUDA)
        for configuration in configurations:
            torch.compiler.reset()  # the literal model's code is the same for each configuration
            images, labels = configuration.batch(network, count)
            steps, found = {}, {}
            for variant, build in runs.builders(network, arguments.levels).items():
                step, peak = runs.with_peak(
                    lambda build=build, images=images, labels=labels, how=configuration: (
                        runs.TrainingStep(build(), images, labels, how, arguments.sgd)
                    )
                )
                steps[variant], found[variant] = step, {"peak_bytes": peak}
                if configuration.compiled == "no":  # compiled code decides what to save
                    stored = step.stored_bytes()
                    found[variant]["stored_bytes_per_image"] = round(stored / count)
                if runs.CUDA:
                    found[variant]["kernels"] = step.kernels().count
            samples = interleave(
                {variant: lambda s=step: s.seconds(repeats) for variant, step in steps.items()},
                arguments.rounds,
            )
            variants = rated(summarise(samples, baseline=runs.LITERAL), count, found)
            show(f"{name}, {configuration}, training, batch {count}", variants)
            report.add(
                {
                    "network": name,
                    **configuration.described(),
                    "batch": count,
                    "variants": variants,
                }
            )


def flax_training(arguments: argparse.Namespace) -> None:
    from benchmarks import flax_runs as runs

    repeats = arguments.repeats or (1 if runs.ON_CPU else 5)
    report = Report(arguments, f"training_flax_{runs.DEVICE}", sgd=arguments.sgd, repeats=repeats)
    for name in arguments.networks:
        network = load_network(name)
        count = arguments.batch or default_batch(network, not runs.ON_CPU)
        images, labels = runs.batch(network, count)
        for dtype in runs.dtypes(arguments):
            programs = {}
            for level in arguments.levels:
                model = runs.generated_model(network, level, dtype)
                for suffix, options in runs.compilers(level).items():
                    with runs.precision(dtype):
                        step = runs.training_program(model, images, labels, arguments.sgd, options)
                    programs[f"O{level}{suffix}"] = step
            found = {
                variant: {"compile_seconds": significant(step.compile_seconds), **step.memory()}
                for variant, step in programs.items()
            }
            samples = interleave(
                {variant: lambda s=step: s.seconds(repeats) for variant, step in programs.items()},
                arguments.rounds,
            )
            variants = rated(summarise(samples, baseline=next(iter(programs))), count, found)
            show(f"{name}, {dtype}, training, batch {count}", variants)
            report.add({"network": name, "dtype": dtype, "batch": count, "variants": variants})


def show(title: str, variants: dict[str, Json]) -> None:
    """Print the results, without empty columns."""
    rows = {}
    for name, row in variants.items():
        cells = {
            **times(row),
            "stored MB/image": megabytes(row.get("stored_bytes_per_image")),
            "peak MB": megabytes(row.get("peak_bytes")),
            "temporary MB": megabytes(row.get("temporary_bytes")),
            "kernels": f"{row.get('kernels', '')}",
            "compile s": f"{row['compile_seconds']:.1f}" if "compile_seconds" in row else "",
        }
        rows[name] = {key: cell for key, cell in cells.items() if cell}
    print_table(title, rows)


def main() -> None:
    found = parser(__doc__, rounds=11)
    found.add_argument(
        "--sgd", action="store_true", help="end a step with SGD, Nesterov 0.9, weight decay"
    )
    add_configurations(found, "no", "whole", "steps")
    arguments = found.parse_args()
    {"torch": torch_training, "flax": flax_training}[arguments.backend](arguments)


if __name__ == "__main__":
    run(main)
