"""What the benchmarks share: arguments, networks, tables and result files."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cliquegraph
from benchmarks.bundled.machine import machine
from benchmarks.bundled.rounds import Json as Json
from benchmarks.bundled.rounds import interleave as interleave
from benchmarks.bundled.rounds import rated as rated
from benchmarks.bundled.rounds import significant as significant
from benchmarks.bundled.rounds import spread as spread
from benchmarks.bundled.rounds import summarise as summarise
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import CliqueGraphError, UsageError
from cliquegraph.files import write_files
from cliquegraph.passes.pipeline import LEVELS, passes_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NETWORKS = ["cliquenet_s0", "cliquenet_s3", "cliquenet_k36_t12", "cliquenet_k64_t15"]
DTYPES = ("fp32", "tf32", "bf16")
FORMATS = ("nchw", "channels_last")


# ---- arguments -----------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """``a,b`` as a list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def some_of(*known: str) -> Callable[[str], list[str]]:
    """Return a parser of lists of words that refuses unknown ones."""

    def parse(text: str) -> list[str]:
        chosen = words(text)
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
        return chosen

    return parse


def positive(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def levels(text: str) -> list[int]:
    """``0,1`` as -O levels; one that does not exist is a usage error."""
    chosen = [int(word) for word in words(text)]
    for level in chosen:
        passes_of(level)
    return chosen


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the common arguments of the benchmarks of networks."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--backend", choices=("torch", "flax"), default="torch")
    add("--networks", type=words, default=NETWORKS, help="names of specs/, separated by commas")
    add("--levels", type=levels, default=list(LEVELS), help="-O levels, separated by commas")
    add("--batch", type=positive, help="images; default: by network and device")
    add("--rounds", type=positive, default=rounds, help="how often each variant is timed, in turn")
    add("--threads", type=positive, help="PyTorch's threads on the CPU")
    add_output(found)
    return found


def add_output(found: argparse.ArgumentParser) -> None:
    """Add the arguments for the output of results."""
    found.add_argument(
        "--output",
        type=Path,
        nargs="?",
        const=Path(),
        help="write results as JSON; without FILE, to benchmarks/results/, named after the run",
        metavar="FILE",
    )
    found.add_argument("--commit", help="the commit to record if this folder is no git checkout")


def add_configurations(found: argparse.ArgumentParser, *compiled: str) -> None:
    """Add the arguments for how models run; on a GPU the default is all usual ways."""
    add = found.add_argument
    add("--repeats", type=positive, help="calls per measurement; default: 1; GPU: 5")
    add("--dtypes", type=some_of(*DTYPES), help=f"of {', '.join(DTYPES)}; default: fp32; GPU: all")
    add("--formats", type=some_of(*FORMATS), help=f"of {', '.join(FORMATS)} (PyTorch); likewise")
    add(
        "--compiled",
        type=some_of(*compiled),
        help=f"of {', '.join(compiled)}: what torch.compile compiles; default: no; GPU: no,whole",
    )


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a usage error is printed as one line and sets the exit code."""
    try:
        main()
    except CliqueGraphError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


# ---- networks ------------------------------------------------------------------------------


def load_network(name: str, *overrides: str) -> NetworkSpec:
    """Load a shipped spec without dropout, with ``overrides`` applied.

    Masks are random and the literal model has none; ImageNet's networks have no dropout anyway.
    """
    path = ROOT / "specs" / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(f"there is no {path.relative_to(ROOT)}")
    network = cliquegraph.load(path)
    places = [f"blocks.{i}" for i, block in enumerate(network.blocks) if hasattr(block, "dropout")]
    places += ["readout"] if network.transition is None else ["transition", "readout"]
    return cliquegraph.load(path, [*(f"{place}.dropout=0" for place in places), *overrides])


_CPU_BATCH = {"cliquenet_k36_t12": 32, "cliquenet_k64_t15": 16}


def default_batch(network: NetworkSpec, accelerator: bool) -> int:
    """Return a usual batch size for a network that is feasible on the device."""
    large = network.input.height > 64
    if accelerator:
        return 64 if large else 256
    return _CPU_BATCH.get(network.name, 4 if large else 32)


# ---- tables --------------------------------------------------------------------------------


def times(row: Json) -> dict[str, str]:
    """Return the table cells for a row of ``rated``."""
    seconds, ratio = row["seconds"], row["ratio"]
    return {
        "images/s": f"{row['images_per_second']:.1f}",
        "ms": f"{seconds['median'] * 1e3:.1f}",
        "quartiles": f"{seconds['lower_quartile'] * 1e3:.1f}–{seconds['upper_quartile'] * 1e3:.1f}",
        f"/ {row['ratio_to']}": f"{ratio['median']:.3f}",
        "its quartiles": f"{ratio['lower_quartile']:.3f}–{ratio['upper_quartile']:.3f}",
    }


def megabytes(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def print_table(title: str, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Print rows under a title: names on the left, cells under their headings."""
    headings = list(dict.fromkeys(key for row in rows.values() for key in row))
    names = max(map(len, rows))
    widths = [max(len(key), *(len(row.get(key, "")) for row in rows.values())) for key in headings]
    print(f"\n{title}")
    print(" " * names, *(f"{key:>{width}}" for key, width in zip(headings, widths, strict=True)))
    for name, row in rows.items():
        cells = (f"{row.get(key, ''):>{w}}" for key, w in zip(headings, widths, strict=True))
        print(f"{name:<{names}}", *cells, flush=True)


# ---- results -------------------------------------------------------------------------------


class Report:
    """Results of a benchmark, written after each part, so that an interrupted run leaves some."""

    def __init__(self, arguments: argparse.Namespace, name: str, **settings: Any) -> None:
        settings = {"rounds": arguments.rounds, "dropout": "off", **settings}
        output = arguments.output
        self._path = RESULTS / f"{name}.json" if output == Path() else output
        self._result: Json = {
            "command": command(),
            **checkout(arguments.commit),
            "machine": machine(),
            "settings": settings,
            "results": [],
        }

    def add(self, result: Json) -> None:
        """Add the result for one network in one configuration."""
        self._result["results"].append(result)
        if self._path is not None:
            write_json(self._path, self._result)


def write_json(path: Path, result: Json) -> None:
    """Write results with keys in insertion order; a list of numbers takes one line."""
    text = json.dumps(result, indent=1, ensure_ascii=False)
    flat = re.sub(r"\[\s+([-+.\deE,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    write_files({path: flat + "\n"})


def command() -> str:
    """The running command, relative to the folder of the project."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else Path(script.name)
    return shlex.join(["python", str(shown), *sys.argv[1:]])


def checkout(stated: str | None = None) -> Json:
    """The commit, and whether files differ from it, not counting new results."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": stated, "dirty": None}
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str) -> str | None:
    """The output of git, or None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607  # whichever git the user has
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
