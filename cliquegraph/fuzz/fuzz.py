"""The fuzzer: draws specs, verifies each at every level, and saves those that fail."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import SpecError
from cliquegraph.files import write_files
from cliquegraph.fuzz.cover import Use, coverage, uses_of
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.fuzz.shrink import shrink
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.plugins.kinds import Document
from cliquegraph.proof.verification import TOLERANCE, Verification
from cliquegraph.proof.verify import choose_backends, verify
from cliquegraph.spec.dump import dump_document
from cliquegraph.spec.network import NetworkSpec

Report = Callable[[str], None]

_REFUSED = "refused"
_HISTORY = ("gradients", "losses", "weights after")


@dataclass(frozen=True)
class Target:
    """A compilation target: an -O level, or the folded graph."""

    level: int = DEFAULT_LEVEL
    inference: bool = False

    @property
    def option(self) -> str:
        """Its command-line option."""
        return "--inference" if self.inference else f"-O{self.level}"


TARGETS = (*(Target(level) for level in LEVELS), Target(inference=True))


@dataclass(frozen=True)
class Failure:
    """The failure of a spec.

    Attributes:
        kind: refused, sharing, parameters, forward, training, float32, or the name of an exception.
        detail: a description.
        target: the level at which it occurs; None: before compilation.
        backends: the backends that took part.
        seed: of the random weights and images.
    """

    kind: str
    detail: str
    target: Target | None = None
    backends: tuple[str, ...] = ()
    seed: int = 0

    def command(self, path: Path) -> str:
        """Return a command that reproduces the failure with the spec at ``path``."""
        file = shlex.quote(str(path))
        if self.target is None:
            return f"cliquegraph check {file}"
        names = ",".join(self.backends)
        option = self.target.option
        return f"cliquegraph verify {file} --backends {names} {option} --seed {self.seed}"


@dataclass(frozen=True)
class Found:
    """A failure, and its minimal spec."""

    index: int
    failure: Failure
    document: Document
    path: Path


Unjudged = tuple[int, Target, str]
"""A spec's index, a target, and a note on an inconclusive comparison."""


@dataclass(frozen=True)
class Fuzzing:
    """The result of a fuzzing run.

    Attributes:
        seed: of specs, weights and images.
        start: index of the first spec.
        count: number of specs.
        backends: the backends that took part.
        targets: the compilation targets.
        coverage: number of specs with each key and value.
        found: the failures.
        unjudged: inconclusive comparisons.
    """

    seed: int
    start: int
    count: int
    backends: tuple[str, ...]
    targets: tuple[Target, ...]
    coverage: dict[Use, int] = field(default_factory=dict)
    found: tuple[Found, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no spec failed."""
        return not self.found


def fuzz(
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    backends: Sequence[str] | None = None,
    targets: Sequence[Target] = TARGETS,
    folder: Path = Path("fuzz"),
    report: Report = lambda line: None,
) -> Fuzzing:
    """Draw specs ``start`` to ``start + count - 1`` of ``seed`` and verify each.

    Args:
        count: number of specs.
        seed: of specs, weights and images.
        start: index of the first spec.
        backends: their names; default: all whose framework is installed.
        targets: the compilation targets.
        folder: where minimal failing specs are written; created for the first one.
        report: called with a line before each spec, for progress.

    Raises:
        BackendError: a requested backend is missing, or none is available.
        UsageError: no backend is named, or a spec can't be written.
    """
    names = tuple(backend.name for backend in choose_backends(backends))
    used, found, unjudged = [], list[Found](), list[Unjudged]()
    for index in range(start, start + count):
        document = draw_spec(seed, index)
        report(f"spec {index - start + 1} of {count}, {len(found)} failed")
        with suppress(Exception):  # a bug in the loader, which is reported below
            used.append(uses_of(document, read_document(document)))
        inconclusive: list[tuple[Target, str]] = []
        failure = find_failure(document, names, targets, seed, inconclusive)
        unjudged += [(index, *each) for each in inconclusive]
        if failure is not None:
            report(f"spec {index - start + 1} of {count} fails ({failure.kind}): shrinking it")
            found.append(_small(document, index, failure, folder))
            _write(found[-1], seed)
    counts = coverage(used)
    return Fuzzing(seed, start, count, names, tuple(targets), counts, tuple(found), tuple(unjudged))


def find_failure(
    document: Document,
    backends: Sequence[str],
    targets: Sequence[Target],
    seed: int,
    unjudged: list[tuple[Target, str]] | None = None,
) -> Failure | None:
    """Return the failure of a spec, or None if it passes.

    Args:
        document: the spec; an invalid one is a failure of the kind refused.
        backends: their names.
        targets: the compilation targets.
        seed: of weights and images.
        unjudged: a list to which inconclusive comparisons are appended.

    Raises:
        BackendError: a backend is missing.
    """
    try:
        network = read_document(document)
        proof = Compilation(network).proof
        Compilation(network).lowered  # noqa: B018  # checks its shapes
    except SpecError as error:
        return Failure(_REFUSED, str(error), seed=seed)
    except Exception as error:  # noqa: BLE001  # any other exception of the compiler is a bug
        return Failure(type(error).__name__, str(error), seed=seed)
    if not proof.holds:
        broken = [f"block {c.block}, {c.rule}: {c.detail}" for c in proof.failures]
        return Failure("sharing", "; ".join(broken), seed=seed)
    notes = [] if unjudged is None else unjudged
    failures = (_failure_at(network, tuple(backends), target, seed, notes) for target in targets)
    return next(filter(None, failures), None)


def _failure_at(
    network: NetworkSpec,
    backends: tuple[str, ...],
    target: Target,
    seed: int,
    unjudged: list[tuple[Target, str]],
) -> Failure | None:
    try:
        found = verify(network, backends, level=target.level, inference=target.inference, seed=seed)
    except Exception as error:  # noqa: BLE001  # any exception of a model is a bug
        return Failure(type(error).__name__, str(error), target, backends, seed)
    unjudged += [(target, note) for note in found.unjudged]
    if found.ok:
        return None
    return Failure(_kind(found), _detail(found), target, backends, seed)


def _kind(found: Verification) -> str:
    wrong = [what for what, error in found.max_error.items() if not error <= TOLERANCE]
    if any(count != found.expected_parameters for count in found.parameters.values()):
        return "parameters"
    if any(not what.startswith(_HISTORY) for what in wrong):
        return "forward"
    return "training" if wrong else "float32"


def _detail(found: Verification) -> str:
    wrong = {what: error for what, error in found.max_error.items() if error > TOLERANCE}
    wrong |= {
        f"{what}, float32": error
        for what, error in found.max_error_float32.items()
        if error > found.tolerance_float32
    }
    worst = ", ".join(f"{what} {error:.1e}" for what, error in wrong.items())
    return "; ".join(filter(None, (found.first_difference, worst)))


def _small(document: Document, index: int, failure: Failure, folder: Path) -> Found:
    """Shrink a spec at the level, and with the fewest backends, with which it fails."""
    targets = [failure.target or Target()]

    def same(candidate: Document, backends: Sequence[str]) -> Failure | None:
        found = find_failure(candidate, backends, targets, failure.seed)
        return found if found is not None and found.kind == failure.kind else None

    alone = (same(document, [name]) for name in failure.backends if len(failure.backends) > 1)
    first = next(filter(None, alone), failure)
    small = document
    # Any smaller text may be rejected for another reason, so rejected specs are not shrunk.
    if failure.kind != _REFUSED and _is_read(document):
        small = shrink(document, lambda each: same(each, first.backends) is not None)
    path = folder / f"seed{failure.seed}_spec{index}.yaml"
    return Found(index, same(small, first.backends) or first, small, path)


def _is_read(document: Document) -> bool:
    try:
        read_document(document)
    except Exception:  # noqa: BLE001  # this is the failure
        return False
    return True


def _write(found: Found, seed: int) -> None:
    failure = found.failure
    detail = " ".join(failure.detail.split())
    comment = [
        f"drawn by cliquegraph fuzz --count 1 --seed {seed} --start {found.index}; after "
        f"shrinking, it still fails ({failure.kind}):",
        detail[:500],
        failure.command(found.path),
    ]
    text = dump_document(found.document, "\n".join(comment))
    write_files({found.path: text})
