"""Proves that a generated file is the declared network: its traced program, evaluated exactly.

The reference is the declaration, evaluated directly from the spec; gradients are compared with its
derivative in dual numbers. It shares no code with lowering, passes, emission or a framework.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import BackendError, CliqueGraphError, UsageError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.types import MapType
from cliquegraph.plugins.backends import Backend
from cliquegraph.proof.bind import Generated
from cliquegraph.proof.compare import DifferenceError, Run, Subject, largest
from cliquegraph.proof.discern import locate_and_describe
from cliquegraph.proof.exact import LANES
from cliquegraph.proof.locate import Located, Mode, Trace
from cliquegraph.proof.models import failure
from cliquegraph.proof.points import BATCH, Points
from cliquegraph.proof.program import Program
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import PrimeField, collision
from cliquegraph.semantics.homogeneous import HomogeneousDegrees, HomogeneousField
from cliquegraph.semantics.reduce import least_size, resize

WANTED = 2.0**-60
"""The comparison is repeated at fresh points until the probability of error is below."""

_ATTEMPTS = 4

_NUMBER = 8  # bytes

_LEAST = 2  # pixels along each side: every tap of a kernel of 3 × 3 meets one

Report = Callable[[str], None]

Find = Callable[[DifferenceError, Points], Located]
"""Names the first difference at points at which a comparison found one."""


@dataclass(frozen=True)
class Point:
    """One comparison: the seed of all random numbers, and the primes."""

    seed: int
    primes: tuple[int, ...]
    queries: int


@dataclass(frozen=True)
class FileProof:
    """The comparison of a file with the declaration.

    Attributes:
        backend: its backend.
        option: the option that selects the graph, ``-O1`` or ``--inference``.
        size: height and width of the images that were compared.
        operators: of the traced program, in evaluation and training.
        file: SHA-256 of the source.
        trace: SHA-256 of the traced programs in evaluation and training.
        gradients_trace: that of the program of gradients in evaluation, if there is one.
        compared: how many numbers of each group of results are equal.
        points: the comparisons.
        bound: the probability that different functions are found equal is at most this.
        difference: the first difference, if there is one.
        seconds: the time it took.
    """

    backend: str
    option: str
    size: tuple[int, int]
    operators: tuple[int, int]
    file: str
    trace: str
    compared: dict[str, int]
    points: tuple[Point, ...]
    bound: float
    difference: Located | None
    seconds: float
    gradients_trace: str = ""

    @property
    def ok(self) -> bool:
        """Whether the file was found equal, and the bound is as wanted."""
        return self.difference is None and self.bound < WANTED


class MemoryNeededError(UsageError):
    """A proof whose values take more memory than there is."""


def physical_memory() -> int:
    """Return the bytes of memory of this machine or container; 2⁶² where no system says it."""
    limits = [2**62]
    if hasattr(os, "sysconf"):  # not on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of control groups 2 and 1
        with suppress(OSError, ValueError):  # "max" where there is no limit
            limits.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(limits)


class Prover:
    """Proves files of one network; what is declared is evaluated once for all of them."""

    def __init__(
        self,
        compilation: Compilation,
        seed: int = 0,
        report: Report = lambda line: None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._network, self._lowered = compilation.network, compilation.lowered
        self._seed, self._report = seed, report
        self.size = size or least_size(self._lowered, _LEAST)
        self._points: dict[tuple[int, type[PrimeField]], tuple[Points, PrimeField]] = {}

    def prove(
        self, compilation: Compilation, backend: Backend, source: str | None = None
    ) -> FileProof:
        """Compare a file with the declaration.

        As ``prove_unless``, whatever is known.
        """
        proof = self.prove_unless(lambda *digests: False, compilation, backend, source)
        assert proof is not None  # noqa: S101  # only a known one is left out
        return proof

    def prove_unless(
        self,
        known: Callable[[str, str], bool],
        compilation: Compilation,
        backend: Backend,
        source: str | None = None,
    ) -> FileProof | None:
        """Compare a file with the declaration, unless what it executes is known to be proved.

        Args:
            known: tells whether traced programs are proved, of these SHA-256: of those in
                evaluation and training, and of that of gradients in evaluation.
            compilation: of the network, at a level or folded.
            backend: the backend that wrote the file.
            source: the file's text; default: what the backend writes now.

        Raises:
            BackendError: the backend's framework is not installed.
            UsageError: the file can't be loaded, or this machine has not enough memory.
            VerificationError: the program has operators without a meaning in exact arithmetic.
        """
        self._require_memory(compilation)
        try:
            return self._prove_unless(known, compilation, backend, source)
        except MemoryError:
            raise MemoryNeededError(
                f"{self._network.name}: the exact values of this proof need more memory than there "
                "is: prove it on a machine with more, or compare floating-point results by verify"
            ) from None

    def _prove_unless(
        self,
        known: Callable[[str, str], bool],
        compilation: Compilation,
        backend: Backend,
        source: str | None,
    ) -> FileProof | None:
        start = perf_counter()
        title = f"{backend.name} {compilation.options[0]}"
        text = compilation.source(backend) if source is None else source
        image = self._lowered.input.type
        assert isinstance(image, MapType)  # noqa: S101  # inputs are maps
        shape = (BATCH, image.channels, *self.size)
        self._report(f"{title}: trace")
        name = compilation.network.python_class
        if not hasattr(backend, "tracer"):
            raise BackendError(f"backend {backend.name!r} has no tracer, which prove needs")
        try:
            tracer = backend.tracer(text, name, compilation.graph)
        except (CliqueGraphError, KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever an edited file raises
            raise UsageError(f"the file can't be loaded: {failure(error)}") from None
        trace = partial(tracer.trace, shape)
        traced: list[Traced] = []
        try:
            for derives in (False, True) if tracer.chooses else (False,):
                way = partial(trace, derives=derives) if derives else trace
                traced.append(Traced.of(way, folded=compilation.inference))
        except (CliqueGraphError, KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever an edited file raises
            result = Result({}, (), 1.0, Located(f"the model fails: {failure(error)}"))
            return self._proof(compilation, backend, text, None, ("", ""), result, start)
        digests = digests_of(traced)
        if known(*digests):
            return None
        binding = Generated(compilation, backend.layout)
        subject = with_ways(
            traced,
            lambda each: Subject(
                compilation.graph,
                binding,
                tracer.parameters,
                each.evaluation,
                each.training,
                unread=binding.unread,
                evaluation_gradients=each.derived,
            ),
        )
        failed = next((each.failed for each in traced if each.failed), "")
        self._report(f"{title}: compare")
        activations: Trace = partial(trace, activations=True)
        if misfit := binding.misfit(tracer, subject.evaluation.counters):
            found = Result({}, (), 1.0, Located(misfit))
        else:
            found = self.compare(
                subject,
                lambda error, at: locate_and_describe(compilation, error, subject, at, activations),
            )
            if failed and found.difference is None:
                found = replace(found, difference=Located(failed))
        return self._proof(compilation, backend, text, traced[0], digests, found, start)

    def _require_memory(self, compilation: Compilation) -> None:
        """Refuse a network whose values are more than this machine holds: it would be killed.

        The traced program keeps about one value for each node, and in training its derivative.
        """
        nodes = resize(self._lowered, *self.size).nodes
        values = [value.type for node in nodes for value in node.outputs]
        elements = sum(each.elements for each in values if isinstance(each, MapType))
        copies = 1 if compilation.inference else 2
        needed = copies * BATCH * LANES * _NUMBER * elements
        if needed > (memory := physical_memory()):
            height, width = self.size
            raise MemoryNeededError(
                f"{self._network.name}: a proof keeps the exact values of maps of {height}×{width} "
                f"images, about {needed >> 30} GiB, and this machine has {memory >> 30}: prove it "
                "on one with more memory, or compare floating-point results by verify"
            )

    def _proof(
        self,
        compilation: Compilation,
        backend: Backend,
        source: str,
        traced: Traced | None,
        digests: tuple[str, str],
        found: Result,
        start: float,
    ) -> FileProof:
        return FileProof(
            backend=backend.name,
            option=compilation.options[0],
            size=self.size,
            operators=(0, 0) if traced is None else traced.operators,
            file=hashlib.sha256(source.encode()).hexdigest(),
            trace=digests[0],
            gradients_trace=digests[1],
            compared=found.numbers,
            points=found.points,
            bound=found.bound,
            difference=found.difference,
            seconds=perf_counter() - start,
        )

    def compare(self, subject: Subject, find: Find) -> Result:
        """Compare a traced model with the declaration, until the bound is as wanted.

        Args:
            subject: the model.
            find: names the first difference at points at which a comparison found one.
        """
        numbers: dict[str, int] = {}
        points: list[Point] = []
        bound = 1.0
        while bound >= WANTED and len(points) < _ATTEMPTS:
            seed = self._seed + len(points)
            field = HomogeneousField if subject.other else PrimeField
            declared, exact = self._declared(seed, field)
            at = Points(self._network, self._lowered, self.size, field(seed, LANES))
            try:
                # The draws of a model by hand are matched with those that are declared.
                beside = None if subject.by_hand else declared
                compared = subject.compare(at, beside)
            except DifferenceError as different:
                return Result({}, (*points,), 1.0, find(different, at))
            numbers = compared.numbers
            points.append(Point(seed, exact.primes, compared.queries))
            assert isinstance(at.exact, PrimeField)  # noqa: S101  # as made above
            constants = exact.constants | at.exact.constants
            polynomials = self._polynomials(subject, constants)
            bound *= collision(compared.queries, *polynomials, lanes=LANES)
        return Result(numbers, (*points,), bound, None)

    def _declared(
        self, seed: int, field: type[PrimeField] = PrimeField
    ) -> tuple[Points, PrimeField]:
        """The points at which the declaration is evaluated, once for all files."""
        key = seed, field
        if key not in self._points:
            exact = field(seed, LANES)
            self._points[key] = Points(self._network, self._lowered, self.size, exact), exact
        return self._points[key]

    def _polynomials(
        self, subject: Subject, constants: frozenset[Fraction]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """The largest degree and bits of an argument of an opaque function, and of a result."""
        degrees = HomogeneousDegrees(constants) if subject.other else Degrees(constants)
        points = Points(self._network, self._lowered, self.size, degrees)
        graph = subject.graph
        dual: list[Array] = []
        runs = [
            Run(each, program, points, training=False)
            for each in subject.ways
            for program in each.in_evaluation
        ]
        if subject.evaluation_gradients is None:
            found = [largest(points.evaluation(graph).values.values())]
        else:
            found = []
            dual += points.derived(graph, training=False).values.values()
        if subject.training is not None:
            meaning = points.training(graph)
            dual += [*meaning.values.values(), *meaning.running.values()]
            runs += [
                Run(each, each.training, points, training=True)
                for each in subject.ways
                if each.training is not None
            ]
        found += [largest(each[part] for each in dual) for part in (0, 1)]
        found += [largest(run.values.values()) for run in runs]
        degree, bits = np.max(found, axis=0).tolist()
        # Then gradients are multiplied by a direction, derivatives by a cotangent.
        terms = sum(prod(tensor.shape) for tensor in self._lowered.tensors)
        (most, most_bits) = degrees.largest.tolist()
        factor = degrees.factor
        return (factor * most, most_bits), (factor * (degree + 1), bits + terms.bit_length())


class TraceOfMode(Protocol):
    """Traces a model in a mode, in one of its ways."""

    def __call__(self, mode: Mode, /, *, gradients: bool = False) -> Program:
        """Return the program."""


@dataclass(frozen=True)
class Traced:
    """The traced programs of a model, in one of its ways.

    Attributes:
        evaluation: that in evaluation.
        training: that in training, with gradients; None of a folded model.
        derived: that of gradients in evaluation, if there is one.
        failed: why there is none, although it is wanted.
    """

    evaluation: Program
    training: Program | None
    derived: Program | None = None
    failed: str = ""

    @classmethod
    def of(cls, trace: TraceOfMode, *, folded: bool = False) -> Traced:
        """Trace a model; a folded one in evaluation without gradients alone."""
        evaluation = trace("evaluation")
        if folded:
            return cls(evaluation, None)
        training = trace("training", gradients=True)
        return cls(evaluation, training, *trace_evaluation_gradients(trace))

    @property
    def operators(self) -> tuple[int, int]:
        """How many operators there are, in evaluation and training."""
        return len(self.evaluation.steps), len(self.training.steps) if self.training else 0


def digests_of(traced: Sequence[Traced]) -> tuple[str, str]:
    """SHA-256 of programs in evaluation and training, in all ways; and of gradients in evaluation.

    The latter is the digest of the program, where there is one way.
    """
    pairs = ((each.evaluation, each.training) for each in traced)
    joined = "".join(program.digest for pair in pairs for program in pair if program is not None)
    derived = [each.derived.digest for each in traced if each.derived is not None]
    if len(derived) > 1:
        derived = [hashlib.sha256("".join(derived).encode()).hexdigest()]
    return hashlib.sha256(joined.encode()).hexdigest(), "".join(derived)


def with_ways(traced: Sequence[Traced], subject: Callable[[Traced], Subject]) -> Subject:
    """Return a model with its other way, if it has one."""
    first, *others = map(subject, traced)
    return replace(first, other=others[0]) if others else first


@dataclass(frozen=True)
class Result:
    """What comparisons found: equal numbers of each group, or the first difference."""

    numbers: dict[str, int]
    points: tuple[Point, ...]
    bound: float
    difference: Located | None


def trace_evaluation_gradients(trace: TraceOfMode) -> tuple[Program | None, str]:
    """Trace gradients in evaluation, or say why they fail; the rest can be compared then."""
    try:
        return trace("evaluation", gradients=True), ""
    except (CliqueGraphError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001  # whatever the user's code raises
        return None, f"the model fails where gradients are taken in evaluation: {failure(error)}"


def unmoved(graph: Graph) -> frozenset[str]:
    """Names of canonical statistics of updates that a model of this graph does not execute."""
    read = {operand.param for node in graph.nodes for operand in node.operands}
    return frozenset(
        tensor_name(piece.tensor)
        for param in graph.params
        if param not in read and not param.field.trainable
        for pieces in param.holdings
        for piece in pieces
    )
