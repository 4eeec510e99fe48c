"""Time to the first training step, and the steady step after it, by what is compiled.

    python benchmarks/first_step.py --output
    python benchmarks/first_step.py --backend flax --output

PyTorch, for each -O level: eager; `torch.compile(model)`, whole; `model.compile_steps()`, where
the model has it, which compiles each shape of an update once. Flax: `jax.jit` of the training step
of each level. Every variant has a separate process and empty caches. The first step starts with a
built model and ends with its gradients, including compilation. Steady steps are paired: the
processes take turns, round by round.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import cliquegraph
from benchmarks.harness import (
    DTYPES,
    FORMATS,
    Json,
    Report,
    default_batch,
    interleave,
    load_network,
    parser,
    positive,
    print_table,
    rated,
    run,
    spread,
    summarise,
    times,
)
from cliquegraph.diagnostics.errors import UsageError

EAGER, WHOLE, STEPS = "eager", "whole", "steps"


class Task(NamedTuple):
    """What one process runs."""

    backend: str
    network: str
    level: int
    batch: int
    dtype: str = "fp32"
    format: str = "nchw"
    compiled: str = "no"
    threads: int | None = None


# ---- the process that runs a variant -------------------------------------------------------


def serve(task: Task) -> None:
    """Answer each line of standard input with the seconds of one more step."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keep the output of compilers out of the answers
    prepare = {"torch": torch_steps, "flax": flax_steps}[task.backend]
    step = prepare(task)
    print("ready", file=answers)
    for _ in sys.stdin:
        gc.collect()
        print(step(), file=answers)


def torch_steps(task: Task) -> Callable[[], float]:
    import torch

    from benchmarks import torch_runs as runs

    if task.threads:
        torch.set_num_threads(task.threads)
    network = load_network(task.network)
    how = runs.Configuration(task.dtype, task.format, task.compiled)
    images, labels = how.batch(network, task.batch)
    model = runs.generated_model(network, task.level)
    return runs.TrainingStep(model, images, labels, how).seconds


def flax_steps(task: Task) -> Callable[[], float]:
    from benchmarks import flax_runs as runs

    network = load_network(task.network)
    model = runs.generated_model(network, task.level, task.dtype)
    images, labels = runs.batch(network, task.batch)
    programs: list[runs.Program] = []

    def step() -> float:
        if programs:
            return programs[0].seconds()
        with runs.precision(task.dtype):
            programs.append(runs.training_program(model, images, labels))
        return programs[0].compile_seconds + programs[0].seconds()

    return step


# ---- the process that asks -----------------------------------------------------------------


@contextmanager
def server(task: Task) -> Iterator[Callable[[], float]]:
    """Start a variant's process with separate caches; yield a function that runs one step there."""
    with tempfile.TemporaryDirectory() as caches:
        environment = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
            "TRITON_CACHE_DIR": f"{caches}/triton",
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the other processes need memory too
        }
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", json.dumps(task._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with process:
            ask, answers = process.stdin, process.stdout
            assert ask is not None and answers is not None  # noqa: S101  # both are pipes

            def answer() -> str:
                line = answers.readline()
                if not line:
                    raise UsageError(f"the process of {task} has ended; see above")
                return line

            def step() -> float:
                if process.poll() is None:  # otherwise read the end of the answers
                    print(file=ask, flush=True)
                return float(answer())

            answer()  # ready
            yield step
            ask.close()


def measure(
    tasks: dict[str, Task], baseline: str, arguments: argparse.Namespace
) -> dict[str, Json]:
    """Return the first and the steady step of each variant."""
    first: dict[str, list[float]] = {name: [] for name in tasks}
    with ExitStack() as running:
        for _ in range(arguments.processes):
            running.close()  # only the last process of each runs steady steps
            steps = {}
            for name, task in tasks.items():
                steps[name] = running.enter_context(server(task))
                first[name].append(steps[name]())
        samples = interleave(steps, arguments.rounds, warm_up=2)
    found = {name: {"first_step_seconds": spread(seconds)} for name, seconds in first.items()}
    return rated(summarise(samples, baseline), next(iter(tasks.values())).batch, found)


def torch_tasks(arguments: argparse.Namespace, name: str) -> Iterator[tuple[dict[str, Task], str]]:
    """Yield the variants of each level, and which is the baseline."""
    from benchmarks import torch_runs as runs

    network = load_network(name)
    count = arguments.batch or default_batch(network, runs.CUDA)
    for level in arguments.levels:
        plain = Task(
            "torch",
            name,
            level,
            count,
            arguments.dtype,
            arguments.format,
            threads=arguments.threads,
        )
        tasks = {
            f"O{level} {EAGER}": plain,
            f"O{level} {WHOLE}": plain._replace(compiled=WHOLE),
        }
        if "def compile_steps(" in cliquegraph.compile(network, "torch", level=level):
            tasks[f"O{level} {STEPS}"] = plain._replace(compiled=STEPS)
        yield tasks, f"O{level} {WHOLE}"


def flax_tasks(arguments: argparse.Namespace, name: str) -> Iterator[tuple[dict[str, Task], str]]:
    """Yield the levels together, and which is the baseline."""
    from benchmarks import flax_runs as runs

    count = arguments.batch or default_batch(load_network(name), not runs.ON_CPU)
    tasks = {
        f"O{level}": Task("flax", name, level, count, arguments.dtype) for level in arguments.levels
    }
    yield tasks, next(iter(tasks))


def main() -> None:
    found = parser(__doc__, rounds=11)
    found.set_defaults(networks=["cliquenet_s0"])
    add = found.add_argument
    add(
        "--processes", type=positive, default=1, help="number of first steps, each in a new process"
    )
    add("--dtype", choices=DTYPES, default="fp32")
    add("--format", choices=FORMATS, default="nchw", help="memory format (PyTorch)")
    add("--serve", help=argparse.SUPPRESS)
    arguments = found.parse_args()
    if arguments.serve:
        serve(Task(**json.loads(arguments.serve)))
        return
    list_tasks = {"torch": torch_tasks, "flax": flax_tasks}[arguments.backend]
    device = device_of(arguments.backend)
    report = Report(
        arguments, f"first_step_{arguments.backend}_{device}", processes=arguments.processes
    )
    for name in arguments.networks:
        for tasks, baseline in list_tasks(arguments, name):
            variants = measure(tasks, baseline, arguments)
            rows = {
                variant: {
                    "first step s": f"{row['first_step_seconds']['median']:.1f}",
                    **times(row),
                }
                for variant, row in variants.items()
            }
            batch = next(iter(tasks.values())).batch
            print_table(f"{name}, {arguments.dtype}, training, batch {batch}", rows)
            report.add(
                {
                    "network": name,
                    "dtype": arguments.dtype,
                    "format": arguments.format,
                    "batch": batch,
                    "variants": variants,
                }
            )


def device_of(backend: str) -> str:
    """Import a framework, so that the report names it, and return its device."""
    if backend == "torch":
        from benchmarks import torch_runs

        return torch_runs.DEVICE.type
    from benchmarks import flax_runs

    return flax_runs.DEVICE


if __name__ == "__main__":
    run(main)
