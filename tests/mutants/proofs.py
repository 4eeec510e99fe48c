"""Which one-line changes of generated files and op graphs the proof does not refute.

    python -m tests.mutants.proofs                             # all that is missing; hours
    python -m tests.mutants.proofs --only "quickstart torch" --count 50 --seconds 600
    python -m tests.mutants.proofs --report                    # counts and survivors

A mutant of a file (``edits.py``) is refuted if ``prove`` names a difference, and an error if the
file can't be loaded or called. One whose traced program is the original's is told apart: it changes
what no call of the model computes. Mutants of op graphs (``graphs.py``), as lowered and after each
pass, are compared with the declaration.

How each ended is kept in ``proofs.json`` under a digest of the whole mutant, written every few
seconds: what was broken off goes on where it was, and what a file has kept is not asked again.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.files import write_files
from cliquegraph.ir.verify import verify_graph
from cliquegraph.lowering.lower import lower
from cliquegraph.plugins.backends import Backend, find_backend
from cliquegraph.proof.bind import Generated
from cliquegraph.proof.certificate import spec_digest
from cliquegraph.proof.compare import DifferenceError, Subject
from cliquegraph.proof.exact import _candidates, words
from cliquegraph.proof.locate import Located
from cliquegraph.proof.points import BATCH, Points
from cliquegraph.proof.prove import LANES, Find, Prover, Result
from cliquegraph.semantics.exact import Candidate, Declared, compare
from cliquegraph.semantics.field import PrimeField
from cliquegraph.semantics.reduce import least_size, resize
from cliquegraph.steps.unroll import unroll
from tests.mutants import graphs
from tests.mutants.edits import Edit, edits
from tests.networks import EVERY_KEY, network

RESULTS = Path(__file__).with_name("proofs.json")

_WIDE = {"layers": 6, "bottleneck": True}
NARROW_S3 = network(
    {**_WIDE, "filters": 2},
    {**_WIDE, "filters": 3},
    stem={"filters": 4},
    transition={"attention": True},
    readout={"compression": 0.5},
)
"""Blocks whose code is that of cliquenet_s3, but for numbers of channels."""

REFUTED, ERROR, SAME, SURVIVED = "refuted", "error", "same program", "survived"

FILES = (("torch", 0), ("flax", 0), ("torch", 1), ("torch", 2), ("flax", 2))

_SAVE = 15.0  # seconds

# Why mutants survive that are no others' functions; the first pattern that is found counts.
EQUIVALENT = {
    r"recompute|jax.checkpoint": "what is recomputed, or saved: the same values",
    r"\.backward, .*gradient stopped": "there is no gradient of a backward pass",
    r"group_norm": "of maps of zeros: neither scale nor groups count",
    r"\.to\(|astype|promote_types|wide|float32": "types, which exact arithmetic does not have",
    r"gradient stopped: .*(running|mean_|self\.norm$)": "statistics, which have no gradient",
    r"(Stem|Quickstart|Small|CliqueNet)\.(forward|features)\w*, .*gradient stopped: x ": (
        "the gradient of images, which is not compared"
    ),
    r"Read\.forward, .*: data  →  moments": "whose type an empty tensor has: in float64 the same",
    r"order: \(self\.mean, mean\), \(self\.var": "statistics may move in any order",
    r"avg_pool2d.*stride=\d+\) ": "the stride of a pool is by default that of its window",
}

Outcome = tuple[str, str]
"""How a mutant ended, and what was said."""


@dataclass(frozen=True)
class Mutant:
    """One change, and how to judge it."""

    kind: str
    what: str
    key: str
    judge: Callable[[], Outcome]


# ---- files -------------------------------------------------------------------------------------


class Judge(Prover):
    """Judges mutants of one network's files; differences are not located, which takes long."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(Compilation(spec, 0))
        self._same: dict[tuple[str, str], tuple[str, str]] = {}
        self._first: dict[tuple[str, str], str] = {}

    def compare(self, subject: Subject, find: Find) -> Result:
        return super().compare(subject, lambda different, at: Located(str(different)))

    def judge(self, compilation: Compilation, backend: Backend, source: str) -> Outcome:
        """Prove a mutant, in evaluation first: most are refuted there."""
        key = backend.name, compilation.options[0]
        original = compilation.source(backend)
        if key not in self._same:
            proof = self.prove(compilation, backend, original)
            assert proof.ok, proof.difference
            self._same[key] = proof.trace, proof.gradients_trace
            self._first[key] = self._evaluation(compilation, backend, original).evaluation.digest
        try:
            subject = self._evaluation(compilation, backend, source)
            if subject.evaluation.digest != self._first[key]:
                self._compare_once(subject)
            found = self.prove_unless(
                lambda *digests: digests == self._same[key], compilation, backend, source
            )
        except DifferenceError as different:
            return REFUTED, str(different)
        except VerificationError as error:
            return REFUTED, f"no meaning: {error}"
        except Exception as error:  # noqa: BLE001  # a mutant may do anything
            return ERROR, type(error).__name__
        if found is None:
            return SAME, ""
        return (SURVIVED, "") if found.ok else (REFUTED, str(found.difference))

    def _compare_once(self, subject: Subject) -> None:
        declared, _ = self._declared(self._seed)
        exact = PrimeField(self._seed, LANES)
        at = Points(self._network, self._lowered, self.size, exact)
        subject.compare(at, declared)

    def _evaluation(self, compilation: Compilation, backend: Backend, source: str) -> Subject:
        tracer = backend.tracer(source, compilation.network.python_class, compilation.graph)
        image: Any = self._lowered.input.type
        program = tracer.trace((BATCH, image.channels, *self.size), "evaluation")
        binding = Generated(compilation, backend.layout)
        return Subject(compilation.graph, binding, tracer.parameters, program, None)


def _of_files(name: str, spec: NetworkSpec, shuffle: Random) -> Iterator[tuple[str, Any]]:
    judge: list[Judge] = []  # made when it is first needed
    digest = spec_digest(spec)
    for backend_name, level in FILES:
        backend, compilation = find_backend(backend_name), Compilation(spec, level)
        source = compilation.source(backend)
        every = list(edits(source, backend_name))
        shuffle.shuffle(every)

        def ask(
            text: str, compilation: Compilation = compilation, backend: Backend = backend
        ) -> Outcome:
            if not judge:
                judge.append(Judge(spec))
            return judge[0].judge(compilation, backend, text)

        def mutant(edit: Edit, ask: Callable[[str], Outcome] = ask, of: str = source) -> Mutant:
            key = _key(digest, of, edit.source)
            return Mutant(edit.kind, str(edit), key, partial(ask, edit.source))

        yield f"{name} {backend_name} -O{level}", [mutant(each) for each in every]


# ---- op graphs ---------------------------------------------------------------------------------


def _of_graphs(name: str, spec: NetworkSpec, shuffle: Random) -> Iterator[tuple[str, Any]]:
    lowered = lower(unroll(spec))
    small = resize(lowered, *least_size(lowered))
    declared: list[Declared] = []

    def ask(candidate: Candidate) -> Outcome:
        if not declared:
            declared.append(Declared(spec, small, PrimeField(0)))
        try:
            verify_graph(candidate.graph)
            compare(spec, candidate, declared[0])
        except VerificationError as error:
            return REFUTED, str(error)
        except Exception as error:  # noqa: BLE001  # a mutant may do anything
            return ERROR, f"{type(error).__name__}: {error}"
        return SURVIVED, ""

    for passes, candidate in _candidates(small):
        every = list(graphs.mutants(candidate.graph, shuffle))
        shuffle.shuffle(every)
        title = words(passes)
        digest = f"{spec_digest(spec)} {candidate.graph.digest()}"
        yield (
            f"{name} {title}",
            [
                Mutant(
                    kind,
                    what,
                    _key(digest, title, kind, what),
                    partial(ask, replace(candidate, graph=graph)),
                )
                for kind, what, graph in every
            ],
        )


def _key(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:10]


# ---- results -----------------------------------------------------------------------------------


def targets(seed: int) -> Iterator[tuple[str, Callable[[], Iterator[tuple[str, Any]]]]]:
    """What is mutated, cheap ones first; mutants in an order drawn from the seed."""
    quickstart = cliquegraph.load("specs/quickstart.yaml")
    s3 = cliquegraph.load("specs/cliquenet_s3.yaml")
    graph_of = {"quickstart": quickstart, **EVERY_KEY, "cliquenet_s3, narrow": NARROW_S3}
    file_of = {"quickstart": quickstart, "cliquenet_s3, narrow": NARROW_S3, "cliquenet_s3": s3}
    for name, spec in graph_of.items():
        title = f"graph of {name}"
        yield title, partial(_of_graphs, title, spec, Random(f"{seed} {name}"))  # noqa: S311
    for name, spec in file_of.items():
        title = f"file of {name}"
        yield title, partial(_of_files, title, spec, Random(f"{seed} {name}"))  # noqa: S311


def read() -> dict[str, Any]:
    """Return the results of each target: how each mutant ended, and who survived."""
    if not RESULTS.exists():
        return {}
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


def write(results: dict[str, Any]) -> None:
    """Write the results; of a target's refuted mutants the keys alone."""
    ordered = {name: results[name] for name in sorted(results)}
    write_files({RESULTS: json.dumps(ordered, indent=0, ensure_ascii=False) + "\n"})


def run(title: str, mutants: Sequence[Mutant], wanted: Sequence[Mutant], until: float) -> None:
    """Judge some of a target's mutants, and keep how each ended."""
    known = read().get(title, {"mutants": 0, "ended": {}, "kinds": {}, "survivors": {}})
    keys = {each.key for each in mutants}
    ended = {key: how for key, how in known["ended"].items() if key in keys}
    survivors = {key: what for key, what in known["survivors"].items() if key in keys}
    saved = time.monotonic()

    def save() -> None:
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for each in mutants:
            if each.key in ended:
                kinds[each.kind][ended[each.key]] += 1
        results = read()
        results[title] = {
            "mutants": len(mutants),
            "kinds": {kind: dict(sorted(kinds[kind].items())) for kind in sorted(kinds)},
            "survivors": dict(sorted(survivors.items())),
            "ended": dict(sorted(ended.items())),
        }
        write(results)

    asked = 0
    for number, mutant in enumerate(wanted):
        if mutant.key in ended:
            continue
        if time.monotonic() > until:
            break
        how, said = mutant.judge()
        asked += 1
        ended[mutant.key] = how
        if how in (SURVIVED, SAME):
            survivors[mutant.key] = f"{how}: {mutant.what}"
        if how == SURVIVED:
            print(f"{title}: {how}: {mutant.what}", flush=True)
        if how == ERROR and title.startswith("graph"):
            print(f"{title}: {mutant.what}: {said}", flush=True)
        if number % 200 == 199:
            _forget()
        if time.monotonic() - saved > _SAVE:
            save()
            saved = time.monotonic()
    if asked or keys != set(known["ended"]):
        save()
    if asked:
        print(f"{title}: {asked} asked, {len(ended)} of {len(mutants)} known", flush=True)


def _forget() -> None:
    gc.collect()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


def report(results: dict[str, Any]) -> None:
    """Print how many mutants of each kind ended how, and every survivor."""
    for of in ("graph", "file"):
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for title, each in results.items():
            if title.startswith(of):
                for kind, counts in each["kinds"].items():
                    kinds[kind].update(counts)
        total: Counter[str] = Counter()
        for kind in sorted(kinds):
            print(f"{of}: {kind}: {dict(kinds[kind])}")
            total.update(kinds[kind])
        print(f"{of}: {dict(total)}")
    for title, each in results.items():
        for what in each["survivors"].values():
            if what.startswith(SURVIVED):
                reasons = (why for pattern, why in EQUIVALENT.items() if re.search(pattern, what))
                print(f"{title}: {what}: {next(reasons, 'NOT EXPLAINED')}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="a part of a target's name")
    parser.add_argument("--within", default="", help="a part of what a mutant is called")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="of each target at most")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more then")
    parser.add_argument("--seed", type=int, default=0, help="of the order of mutants")
    parser.add_argument("--report", action="store_true", help="judge nothing")
    args = parser.parse_args()
    if not args.report:
        until = time.monotonic() + args.seconds
        for name, make in targets(args.seed):
            if args.only and not (name in args.only or args.only in name):
                continue
            for title, every in make():
                mutants = [each for each in every if args.within in each.what]
                if args.only in title and time.monotonic() < until:
                    run(title, every, mutants[: args.count], until)
    report(read())
    return 0


if __name__ == "__main__":
    sys.exit(main())
