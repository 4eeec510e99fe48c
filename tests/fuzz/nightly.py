"""A night of random networks: thousands, in pieces that are processes of their own.

Every spec is verified in the first backend alone at every -O level and folded; in all backends
together, which costs ten times as much, each piece of specs at one of these, in turn. Pieces are
kept in ``runs/fuzz``, in a folder for the state of the code: what was broken off goes on where it
was, and what other code found is not taken for this one's.

    python tests/fuzz/nightly.py --count 2000 --seed 2 -o tests/fuzz/results/nightly_seed2.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

from cliquegraph.fuzz.fuzz import TARGETS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.harness import checkout  # noqa: E402

PIECE = 25  # what is lost when the night ends early
_TOOLS = ("cliquegraph", "torch", "jax", "jaxlib", "flax", "numpy")

Summary = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="how many specs")
    parser.add_argument("--together", type=int, help="how many in all backends; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of specs, weights and images")
    parser.add_argument("--backends", default="torch,flax", help="the first alone sees every level")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="pieces at once")
    parser.add_argument("--runs", type=Path, default=Path("runs/fuzz"), help="folder for pieces")
    parser.add_argument("-o", "--output", type=Path, help="file for the summary")
    args = parser.parse_args()
    first = args.backends.split(",")[0]
    together = args.count if args.together is None else args.together
    alone = [[*words, f"--backends={first}"] for words in ranges(args.count, args.seed)]
    pairs = zip(ranges(together, args.seed), cycle(TARGETS), strict=False)
    all_of_them = [[*words, f"--backends={args.backends}", each.option] for words, each in pairs]
    state = code_digest()
    run = partial(piece, runs=args.runs / state)
    with ThreadPoolExecutor(args.jobs) as pool:
        parts = {
            "every level": merge(pool.map(run, alone)),
            "all backends, a level each": merge(pool.map(run, all_of_them)),
        }
    if code_digest() != state:
        sys.exit("the code has changed since the night began: its pieces are of no one state")
    summary = {
        "command": shlex.join(["python", "tests/fuzz/nightly.py", *sys.argv[1:]]),
        **checkout(),
        "code": state,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {tool: version(tool) for tool in _TOOLS},
        **parts,
    }
    text = json.dumps(summary, indent=2) + "\n"
    if args.output:
        args.output.write_text(text)
    else:
        print(text)
    return 1 if any(part["failures"] for part in parts.values()) else 0


def code_digest() -> str:
    """Of the compiler and the backends, on which alone it depends what a spec comes to."""
    files = sorted(
        path
        for folder in ("cliquegraph", "backends")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".jinja")
    )
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def ranges(count: int, seed: int) -> Iterator[list[str]]:
    """The options for each piece of so many specs."""
    for start in range(0, count, PIECE):
        yield [f"--count={min(PIECE, count - start)}", f"--start={start}", f"--seed={seed}"]


def piece(words: list[str], runs: Path) -> Summary:
    """Run one piece, unless an earlier night has."""
    name = "_".join(word.strip("-").replace("=", "").replace(",", "-") for word in words)
    path = runs / f"{name}.json"
    if not path.exists():
        command = [sys.executable, "-m", "cliquegraph", "fuzz", *words, "-o", str(runs), "--json"]
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if ran.returncode not in (0, 1):
            sys.exit(f"{shlex.join(command)} ended with {ran.returncode}")
        runs.mkdir(parents=True, exist_ok=True)
        path.write_text(ran.stdout)
    found: Summary = json.loads(path.read_text())
    return found


def merge(pieces: Iterable[Summary]) -> Summary:
    """Add up what pieces found: specs and failures, at which options, with which keys."""
    pieces = list(pieces)
    options, coverage = Counter[str](), Counter[str]()
    for each in pieces:
        options.update(dict.fromkeys(each["options"], each["count"]))
        coverage.update(each["coverage"])
    return {
        "seed": pieces[0]["seed"],
        "count": sum(each["count"] for each in pieces),
        "backends": pieces[0]["backends"],
        "specs by option": dict(sorted(options.items())),
        "unjudged": [open_end for each in pieces for open_end in each["unjudged"]],
        "failures": [failure for each in pieces for failure in each["failures"]],
        "coverage": dict(sorted(coverage.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
