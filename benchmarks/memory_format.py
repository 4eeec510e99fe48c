"""A training step of every -O level in NCHW and channels_last: the figures for the trainer.

    python benchmarks/memory_format.py --output

PyTorch, eager. A step is forward, cross entropy and backward; dropout is off. All levels and
formats of a network run in turn; ratios are to -O0 in NCHW. `stored` is what autograd saves
for backward, each storage once, without the model's own tensors.
"""

from __future__ import annotations

import argparse

from benchmarks.harness import (
    DTYPES,
    FORMATS,
    Report,
    add_output,
    default_batch,
    interleave,
    levels,
    load_network,
    megabytes,
    positive,
    print_table,
    rated,
    run,
    some_of,
    summarise,
    times,
    words,
)
from cliquegraph.passes.pipeline import LEVELS

NETWORKS = ["cliquenet_s0", "cliquenet_k36_t12", "densenet_k12_t36"]
BASELINE = "O0 nchw"


def measure(arguments: argparse.Namespace) -> None:
    import torch

    from benchmarks import torch_runs as runs

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True  # like the trainer
    dtypes = arguments.dtypes or (["fp32", "bf16"] if runs.CUDA else ["fp32"])
    repeats = arguments.repeats or (5 if runs.CUDA else 1)
    report = Report(arguments, f"memory_format_torch_{runs.DEVICE.type}", repeats=repeats)
    for name in arguments.networks:
        network = load_network(name)
        count = arguments.batch or default_batch(network, runs.CUDA)
        for dtype in dtypes:
            steps, stored = {}, {}
            for level in sorted({0, *arguments.levels}):  # -O0 is the baseline
                for layout in FORMATS:
                    configuration = runs.Configuration(dtype, layout)
                    model = runs.generated_model(network, level)
                    batch = configuration.batch(network, count)
                    step = runs.TrainingStep(model, *batch, configuration)
                    variant = f"O{level} {layout}"
                    size = round(step.stored_bytes() / count)
                    steps[variant], stored[variant] = step, {"stored_bytes_per_image": size}
            samples = interleave(
                {variant: lambda s=step: s.seconds(repeats) for variant, step in steps.items()},
                arguments.rounds,
            )
            variants = rated(summarise(samples, BASELINE), count, stored)
            rows = {
                variant: {
                    **times(row),
                    "stored MB/image": megabytes(row["stored_bytes_per_image"]),
                }
                for variant, row in variants.items()
            }
            print_table(f"{name}, {dtype}, training, batch {count}", rows)
            report.add({"network": name, "dtype": dtype, "batch": count, "variants": variants})


def main() -> None:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--networks", type=words, default=NETWORKS, help="names of specs/, separated by commas")
    add("--levels", type=levels, default=list(LEVELS), help="-O levels, separated by commas")
    add("--batch", type=positive, help="images; default: by network and device")
    add("--rounds", type=positive, default=11, help="how often each variant is timed, in turn")
    add("--repeats", type=positive, help="calls per measurement; default: 1; GPU: 5")
    add("--threads", type=positive, help="PyTorch's threads on the CPU")
    add(
        "--dtypes",
        type=some_of(*DTYPES),
        help=f"of {', '.join(DTYPES)}; default: fp32; GPU: and bf16",
    )
    add_output(found)
    measure(found.parse_args())


if __name__ == "__main__":
    run(main)
