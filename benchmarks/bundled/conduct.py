"""Runs the parts of a bundle in order, each in a separate process, and divides the time.

Processes are separate because PyTorch and JAX bring different versions of CUDA libraries, a
failing kernel can break the rest of its process, and a part that takes too long can be stopped.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.bundled.machine import machine
from benchmarks.bundled.networks import Bundle
from benchmarks.bundled.rounds import Json
from benchmarks.bundled.session import Session, failure

GRACE = 15
"""Seconds for a part to finish after it should start nothing more."""


@dataclass(frozen=True)
class Part:
    """What one process runs; ``weight``: its share of the time, among the remaining parts."""

    weight: int
    framework: str
    module: str
    function: str


PARTS = {
    "correctness": Part(30, "torch", "torch_correctness", "correctness"),
    "speed": Part(35, "torch", "torch_speed", "speed"),
    "triton": Part(12, "torch", "torch_speed", "kernels"),
    "flax": Part(30, "jax", "flax_parts", "flax"),
    "cuda-graph": Part(8, "torch", "torch_speed", "graphs"),
    "references": Part(10, "torch", "torch_speed", "references"),
    "compiled": Part(30, "torch", "torch_speed", "compiled"),
}
"""The most decisive first."""


def chosen_parts(text: str) -> list[str]:
    """``a,b`` as names of parts, in their order."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a run, from a bundle or from the project's folder."""
    add = parser.add_argument
    add("--seconds", type=float, default=520, help="for everything; default: 520")
    add(
        "--only",
        type=chosen_parts,
        default=list(PARTS),
        metavar="PART[,PART]",
        help=f"of {', '.join(PARTS)}; default: all, in this order",
    )
    add(
        "--dry",
        action="store_true",
        help="on the CPU, with tiny sizes: a test that everything runs",
    )


# ---- the process that conducts -------------------------------------------------------------


def conduct(folder: Path, seconds: float, parts: list[str], dry: bool) -> Iterator[Json]:
    """Run parts of a bundle; yield each line as it comes, finally what failed or is missing."""
    started = time.time()
    until = started + seconds
    environment = dict(os.environ)
    if dry:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    yield {
        "part": "machine",
        "t": 0.0,
        **described(Bundle(folder).manifest),
        "seconds": seconds,
        "dry": dry,
    }
    left_out: list[str] = []
    failed: dict[str, None] = {}
    for index, name in enumerate(parts):
        weights = [PARTS[each].weight for each in parts[index:]]
        share = max(0.0, until - time.time()) * weights[0] / sum(weights)
        if share < 1:
            left_out.append(name)
            continue
        command = [
            *(sys.executable, str(folder / "gpu.py"), "--part", name),
            *("--seconds", f"{share:.1f}", "--started", f"{started:.3f}"),
            *(["--dry"] if dry else []),
        ]
        process = Process(name)
        for line in process.lines(command, environment, min(share + GRACE, until - time.time())):
            line.setdefault("t", round(time.time() - started, 1))
            if "error" in line or line.get("ok") is False:
                failed[f"{name}: {line['unit']}" if "unit" in line else name] = None
            yield line
        left_out += process.left_out
    took = round(time.time() - started, 1)
    yield {"part": "end", "t": took, "failed": list(failed), "left_out": left_out}


def described(manifest: Json) -> Json:
    """Return the facts about the machine that need no framework."""
    found = {"commit": manifest["commit"], "dirty": manifest["dirty"], **machine()}
    for package in ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "timm", "torchvision"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    if smi := shutil.which("nvidia-smi"):
        query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        asked = subprocess.run([smi, *query], capture_output=True, text=True, check=False)
        found["nvidia_smi"] = asked.stdout.strip()
    return found


@dataclass
class Process:
    """The process of a part, and its progress according to its lines."""

    part: str
    _planned: list[str] = field(default_factory=list)
    _begun: list[str] = field(default_factory=list)
    _finished: bool = False
    _stopped: bool = False

    def lines(
        self, command: list[str], environment: dict[str, str], limit: float
    ) -> Iterator[Json]:
        """Start it; yield its lines, and one more if it did not end normally."""
        with subprocess.Popen(  # a new session: its child processes are stopped with it
            command, stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True
        ) as process:
            timer = threading.Timer(max(limit, 1.0), self._stop, [process])
            timer.start()
            try:
                assert process.stdout is not None  # noqa: S101  # it is a pipe
                for text in process.stdout:
                    line: Json = json.loads(text)
                    self._observe(line)
                    yield line
                code = process.wait()
            finally:
                timer.cancel()
                self._kill(process)
        if self._stopped:
            yield {"part": self.part, "stopped": f"no time left after {limit:.0f} s"}
        elif code or not self._finished:
            yield {"part": self.part, "error": f"the process ended with {code}"}

    @property
    def left_out(self) -> list[str]:
        """The units that have no result or an incomplete one."""
        if not self._planned:
            return [self.part]
        complete = self._begun if self._finished or not self._begun else self._begun[:-1]
        return [f"{self.part}: {unit}" for unit in self._planned if unit not in complete]

    def _observe(self, line: Json) -> None:
        self._planned = line.get("plan", self._planned)
        self._finished |= line.get("finished", False)
        if "unit" in line and line["unit"] not in self._begun:
            self._begun.append(line["unit"])

    def _stop(self, process: subprocess.Popen[str]) -> None:
        self._stopped = True
        self._kill(process)

    def _kill(self, process: subprocess.Popen[str]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


# ---- the process of a part -----------------------------------------------------------------


def serve(folder: Path, name: str, seconds: float, started: float, dry: bool) -> None:
    """Run one part; its lines go to the original standard output."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # keep the output of libraries out of the lines
    session = Session(name, Bundle(folder), dry, seconds, started, output)
    part = PARTS[name]
    try:
        facts = {"torch": torch_device, "jax": jax_device}[part.framework](dry)
        module = importlib.import_module(f"benchmarks.bundled.{part.module}")
        units = getattr(module, part.function)(session)
    except (ImportError, RuntimeError) as error:  # no framework, or no device
        session.line(**failure(error))
        sys.exit(1)
    session.run(units, **facts)


def torch_device(dry: bool) -> Json:
    """Return PyTorch's device."""
    import torch

    if dry:
        torch.set_num_threads(1)  # tiny operations take longer with several
        return {"device": "cpu"}
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no CUDA device; --dry runs on the CPU")
    return {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def jax_device(dry: bool) -> Json:
    """Return JAX's device."""
    import jax

    if not dry and jax.default_backend() == "cpu":
        raise RuntimeError("JAX finds no GPU; --dry runs on the CPU")
    return {"device": jax.devices()[0].device_kind}


def main(folder: Path, description: str) -> None:
    """The command line of a bundle."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--output", type=Path, help="also write the lines to this file", metavar="FILE"
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        serve(folder, arguments.part, arguments.seconds, arguments.started, arguments.dry)
        return
    if arguments.output:
        arguments.output.write_text("", encoding="utf-8")
    for line in conduct(folder, arguments.seconds, arguments.only, arguments.dry):
        text = json.dumps(line, ensure_ascii=False)
        print(text, flush=True)
        if arguments.output:
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
