"""Compile time against the number of unrolled edges.

    python benchmarks/compile_time.py [--out benchmarks/results/compile_time.json]

One clique block of n layers in s stages has about n² edges read s times; every size goes
through unrolling, the check of sharing, lowering, passes and emission for each backend, several
times in one process, sizes interleaved. The main figure is microseconds per edge read: it is
constant where time grows linearly. `process` is a whole `cliquegraph compile` of CliqueNet-S3.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cliquegraph
from benchmarks.harness import ROOT, checkout, positive, write_json
from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend, installed

SIZES = ((4, 2), (8, 2), (16, 2), (16, 4), (32, 2), (32, 4), (64, 2), (64, 4))


def network(layers: int, stages: int) -> cliquegraph.NetworkSpec:
    return cliquegraph.loads(
        f"""
        cliquegraph: 1
        name: block
        input: {{channels: 3, height: 8, width: 8}}
        stem: {{filters: 8}}
        blocks: [{{layers: {layers}, filters: 8, stages: {stages}, bottleneck: true}}]
        classifier: {{classes: 10}}
        """
    )


def compile_once(layers: int, stages: int) -> dict[str, float]:
    """Seconds for each phase."""
    compilation = Compilation(network(layers, stages))
    backends = [find_backend(name) for name in installed()]
    phases = {
        "unroll": lambda: compilation.steps,
        "prove": lambda: compilation.proof,
        "lower": lambda: compilation.lowered,
        "passes": lambda: compilation.graph,
        **{b.name: lambda b=b: compilation.source(b) for b in backends},
    }
    gc.collect()
    seconds = {}
    for phase, run in phases.items():
        start = time.perf_counter()
        run()
        seconds[phase] = time.perf_counter() - start
    return seconds


def edges_read(layers: int, stages: int) -> int:
    graph = cliquegraph.unroll(network(layers, stages))
    return sum(len(step.reads) for step in graph.steps)


def whole_process(repeats: int) -> list[float]:
    seconds = []
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "cliquegraph", "compile", "specs/cliquenet_s3.yaml"]
        command += ["--backend", "torch", "--out", out]
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    compile_once(4, 2)  # imports and caches
    samples: dict[tuple[int, int], list[dict[str, float]]] = {size: [] for size in SIZES}
    for _ in range(arguments.repeats):
        for size in SIZES:
            samples[size].append(compile_once(*size))

    rows = []
    print(f"{'layers':>6} {'stages':>6} {'edges':>6} {'ms':>9} {'(min–max)':>17} {'µs/edge':>8}")
    for (layers, stages), runs in samples.items():
        totals = [sum(run.values()) * 1e3 for run in runs]
        edges, median = edges_read(layers, stages), statistics.median(totals)
        spread = f"({min(totals):.1f}–{max(totals):.1f})"
        print(
            f"{layers:>6} {stages:>6} {edges:>6} {median:>9.1f} {spread:>17} "
            f"{median * 1e3 / edges:>8.1f}"
        )
        phases = {phase: statistics.median(run[phase] * 1e3 for run in runs) for phase in runs[0]}
        rows.append(
            {
                "layers": layers,
                "stages": stages,
                "edges_read": edges,
                "total_ms": totals,
                "median_ms_by_phase": phases,
            }
        )
    slope, _ = np.polyfit(
        np.log([row["edges_read"] for row in rows[2:]]),
        np.log([statistics.median(row["total_ms"]) for row in rows[2:]]),
        1,
    )
    print(f"time grows as edges^{slope:.2f} from 16 layers on")
    process = whole_process(arguments.repeats)
    print(f"process: compile S3 for torch, {statistics.median(process):.2f} s", end="")
    print(f" ({min(process):.2f}–{max(process):.2f})")

    if arguments.out:
        result = {
            "command": "python benchmarks/compile_time.py",
            "machine": f"{platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
            "numpy": np.__version__,
            "commit": checkout()["commit"],
            "exponent": round(float(slope), 3),
            "rows": rows,
            "process_seconds": process,
        }
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
