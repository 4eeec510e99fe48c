"""The first nine minutes on a GPU: correctness, then speed of every -O level.

    python benchmarks/gpu.py --output
    python benchmarks/gpu.py --dry
    python benchmarks/gpu.py --bundle DIR
    python benchmarks/gpu.py --lines FILE --output

Prints each result at once as a JSON line, the most decisive first. A failure is a line too, and
the last line names what there was no time for. Parts:

    correctness  logits, loss, gradients and running statistics of each level against -O0
    speed        training steps of the literal model and each level, in bfloat16
    triton       training steps of -O1 and -O2 by PyTorch's kernels, and by Triton's
    flax         both for Flax, jitted, with the memory that XLA reports, what the compiled program
                 launches, and the kernels of a profile
    cuda-graph   the whole step of a small network, eager and as a CUDA graph
    references   a dense network, and DenseNet-121 and ResNet-50 of timm or torchvision
    compiled     torch.compile of whole models

--bundle writes everything into a folder that needs only a framework; run
`python gpu.py --output FILE` in it. --lines turns that output into results.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.bundled.conduct import add_arguments, conduct
from benchmarks.gpu_bundle import write_bundle
from benchmarks.harness import RESULTS, Json, add_output, checkout, command, run, write_json
from cliquegraph.diagnostics.errors import UsageError


def run_here(arguments: argparse.Namespace) -> Iterator[Json]:
    """Write a bundle into a temporary folder and run it."""
    with tempfile.TemporaryDirectory() as name:
        write_bundle(Path(name), checkout(arguments.commit))
        yield from conduct(Path(name), arguments.seconds, arguments.only, arguments.dry)


def read_lines(path: Path) -> Iterator[Json]:
    """Yield the lines that a bundle wrote elsewhere."""
    try:
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read lines from {path}: {error}") from None


def record(lines: Iterable[Json], output: Path | None) -> None:
    """Print lines as they come; with ``output``, write all so far after each."""
    results: list[Json] = []
    for line in lines:
        results.append(line)
        print(json.dumps(line, ensure_ascii=False), flush=True)
        if output is None:
            continue
        machine, *rest = results
        path = RESULTS / f"gpu_{device_of(rest)}.json" if output == Path() else output
        if rest:
            commit = {key: machine[key] for key in ("commit", "dirty")}
            result = {"command": command(), **commit, "machine": machine, "results": rest}
            write_json(path, result)


def device_of(lines: Iterable[Json]) -> str:
    """Return the name of the device that the first part found, as part of a file's name."""
    device = next((line["device"] for line in lines if "device" in line), "none")
    return re.sub(r"[^a-z0-9]+", "_", str(device).lower()).strip("_")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--bundle", type=Path, help="write a bundle; run nothing", metavar="DIR")
    where.add_argument(
        "--lines", type=Path, help="the output of a bundle that ran elsewhere", metavar="FILE"
    )
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.bundle:
        write_bundle(arguments.bundle, checkout(arguments.commit))
        return
    lines = read_lines(arguments.lines) if arguments.lines else run_here(arguments)
    record(lines, arguments.output)


if __name__ == "__main__":
    run(main)
