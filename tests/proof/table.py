"""Proves every shipped network's files, and keeps what was proved in ``generated/proofs.json``.

    python -m tests.proof.table                      # all that is missing; hours
    python -m tests.proof.table --seconds 600        # as many as fit
    python -m tests.proof.table --only resnet        # those whose name contains it
    python -m tests.proof.table --option=-O0         # those of one level
    python -m tests.proof.table --backend=flax       # those of one backend
    python -m tests.proof.table --check              # says what is missing; exit code 1 if any is
    python -m tests.proof.table --gradients          # also entries without gradients in evaluation

An entry is kept under the network's name and the digest of the traced program: comments and names
may change without a new proof. The table is written after each proof, so a run that is broken off
goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.files import write_files
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.certificate import file_entry, spec_digest, versions
from cliquegraph.proof.compare import EVALUATION_GRADIENTS
from cliquegraph.proof.prove import MemoryNeededError, Prover

TABLE = Path("generated/proofs.json")
BACKENDS = ("torch", "flax")

Entry = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A file of a shipped network."""

    spec: str
    backend: str
    option: str

    def compilation(self, network: NetworkSpec) -> Compilation:
        """Return what compiles it."""
        if self.option == "--inference":
            return Compilation(network, inference=True)
        return Compilation(network, int(self.option.removeprefix("-O")))


OPTIONS = (*(f"-O{level}" for level in LEVELS), "--inference")


def targets(
    only: str = "", options: Sequence[str] = OPTIONS, backends: Sequence[str] = BACKENDS
) -> Iterator[tuple[NetworkSpec, list[Target]]]:
    """Every shipped network with its files, cheap ones first."""
    networks = {path: cliquegraph.load(str(path)) for path in Path("specs").glob("*.yaml")}
    chosen = {path: each for path, each in networks.items() if only in path.name}
    for path in sorted(chosen, key=lambda path: _cost(chosen[path])):
        files = [Target(str(path), each, option) for each in backends for option in options]
        yield networks[path], files


def _cost(network: NetworkSpec) -> float:
    """A guess of how long a proof takes."""
    compilation = Compilation(network, 0)
    height, width = Prover(compilation).size
    pixels = height * width / network.input.height / network.input.width
    return compilation.cost.total.macs * pixels + 20 * compilation.cost.total.parameters


def read_table() -> dict[str, Entry]:
    """Return the entries by ``key_of``."""
    if not TABLE.exists():
        return {}
    entries: dict[str, Entry] = json.loads(TABLE.read_text())["proofs"]
    return entries


def key_of(network: NetworkSpec, trace: str) -> str:
    """Return an entry's key: programs name no widths, so that two networks may have the same."""
    return f"{network.name} {trace}"


def write_table(entries: dict[str, Entry]) -> None:
    """Write the entries, in an order that does not depend on when they were proved."""
    ordered = dict(
        sorted(
            entries.items(),
            key=lambda each: (each[1]["spec"], each[1]["backend"], each[1]["option"]),
        )
    )
    write_files({TABLE: json.dumps({"proofs": ordered}, indent=1) + "\n"})


def files_of(entry: Entry) -> dict[str, str]:
    """The digests of the files that execute what was proved, by their options."""
    files: dict[str, str] = entry.get("files") or {entry["option"]: entry["file_sha256"]}
    return files


def is_of(entry: Entry, target: Target, network: NetworkSpec) -> bool:
    """Tell whether an entry is of the network that a file is generated from, in its backend."""
    same = (entry["spec"], entry["backend"]) == (target.spec, target.backend)
    return same and entry["spec_sha256"] == spec_digest(network)


def is_current(entry: Entry, target: Target, network: NetworkSpec, source: str) -> bool:
    """Tell whether an entry is of this very file, so that it need not be traced."""
    digest = hashlib.sha256(source.encode()).hexdigest()
    return is_of(entry, target, network) and files_of(entry).get(target.option) == digest


def lacks_gradients(entry: Entry) -> bool:
    """Tell whether an entry is older than the comparison of gradients in evaluation."""
    folded = entry["option"] == "--inference"
    return not folded and EVALUATION_GRADIENTS not in entry["equal"]


def with_file(
    entries: dict[str, Entry], key: str, entry: Entry, target: Target, source: str
) -> dict[str, Entry]:
    """Return the entries with one of a file; others of that file are of an earlier state."""
    kept: dict[str, Entry] = {}
    for digest, each in entries.items():
        files = files_of(each)
        if (each["spec"], each["backend"]) == (target.spec, target.backend):
            files = {option: file for option, file in files.items() if option != target.option}
        if files:
            option = next(iter(files))
            kept[digest] = {**each, "option": option, "file_sha256": files[option], "files": files}
    files = files_of(kept[key]) if key in kept else {}
    file = hashlib.sha256(source.encode()).hexdigest()
    return kept | {key: {**entry, "files": {**files, target.option: file}}}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="a part of the spec's name")
    parser.add_argument("--option", choices=OPTIONS, action="append", help="a level or --inference")
    parser.add_argument(
        "--backend", choices=BACKENDS, action="append", help="a backend; default: all"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more then")
    parser.add_argument("--check", action="store_true", help="prove nothing")
    parser.add_argument("--gradients", action="store_true", help="prove old entries again")
    args = parser.parse_args()
    start, failed, missing = time.monotonic(), 0, 0
    for network, files in targets(args.only, args.option or OPTIONS, args.backend or BACKENDS):
        prover = Prover(Compilation(network, 0))
        entries = read_table()
        for target in files:
            compilation, backend = target.compilation(network), find_backend(target.backend)
            source = compilation.source(backend)
            current = [
                each for each in entries.values() if is_current(each, target, network, source)
            ]
            if current and not (args.gradients and lacks_gradients(current[0])):
                continue
            missing += 1
            if args.check:
                print(f"{network.name} {target.backend} {target.option}: not proved")
                continue
            if time.monotonic() - start > args.seconds:
                return failed > 0
            began = time.process_time()
            traces: list[str] = []

            def known(
                trace: str,
                gradients: str,
                target: Target = target,
                network: NetworkSpec = network,
                traces: list[str] = traces,
            ) -> bool:
                traces.append(trace)
                entry = read_table().get(key_of(network, trace))
                if entry is None or not is_of(entry, target, network):
                    return False
                if lacks_gradients(entry):
                    return not args.gradients
                folded = target.option == "--inference"
                return folded or entry.get("gradients_trace_sha256") in ("", gradients)

            try:
                found = prover.prove_unless(known, compilation, backend, source)
            except MemoryNeededError as error:
                print(f"{network.name} {target.backend} {target.option}: {error}", flush=True)
                continue
            key = key_of(network, *traces)
            seconds = time.process_time() - began
            print(f"{network.name} {target.backend} {target.option}: ", end="")
            if found is None:
                print("executes what is proved", flush=True)
                entries = read_table()
                entries = with_file(entries, key, entries[key], target, source)
                write_table(entries)
                continue
            print(f"{'proved' if found.ok else found.difference}, {seconds:.0f} s", flush=True)
            if not found.ok:
                failed += 1
                continue
            entry = {"network": network.name, "spec": target.spec, **file_entry(found)}
            entry |= {"spec_sha256": spec_digest(network), "cpu_seconds": round(seconds, 1)}
            entry["versions"] = versions()
            del entry["ok"]
            entries = with_file(read_table(), key, entry, target, source)
            write_table(entries)
    old = sum(map(lacks_gradients, read_table().values()))
    if args.check and old:
        print(f"{old} entries are without gradients in evaluation: --gradients adds them")
    return 1 if failed or (args.check and missing) else 0


if __name__ == "__main__":
    sys.exit(main())
