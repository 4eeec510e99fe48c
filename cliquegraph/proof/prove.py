"""Proves that a generated file is the declared network: its traced program, evaluated exactly.

The reference is the declaration, evaluated directly from the spec; gradients are compared with its
derivative in dual numbers. It shares no code with lowering, passes, emission or a framework.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import prod
from time import perf_counter

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import CliqueGraphError, UsageError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.types import MapType
from cliquegraph.plugins.backends import Backend
from cliquegraph.proof.bind import Generated
from cliquegraph.proof.compare import DifferenceError, Run, Subject, largest
from cliquegraph.proof.discern import locate_and_describe
from cliquegraph.proof.exact import LANES
from cliquegraph.proof.locate import Located, Trace
from cliquegraph.proof.models import failure
from cliquegraph.proof.points import BATCH, Points
from cliquegraph.proof.program import Program
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.degrees import Degrees
from cliquegraph.semantics.field import PrimeField, collision
from cliquegraph.semantics.reduce import least_size

WANTED = 2.0**-60
"""The comparison is repeated at fresh points until the probability of error is below."""

_ATTEMPTS = 4

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
        self._points: dict[int, tuple[Points, PrimeField]] = {}

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
            UsageError: the file can't be loaded.
            VerificationError: the program has operators without a meaning in exact arithmetic.
        """
        start = perf_counter()
        title = f"{backend.name} {compilation.options[0]}"
        text = compilation.source(backend) if source is None else source
        image = self._lowered.input.type
        assert isinstance(image, MapType)  # noqa: S101  # inputs are maps
        shape = (BATCH, image.channels, *self.size)
        self._report(f"{title}: trace")
        name = compilation.network.python_class
        try:
            tracer = backend.tracer(text, name, compilation.graph)
        except (CliqueGraphError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever an edited file raises
            raise UsageError(f"the file can't be loaded: {failure(error)}") from None
        try:
            programs = [tracer.trace(shape, "evaluation")]
            if not compilation.inference:
                programs.append(tracer.trace(shape, "training", gradients=True))
        except (CliqueGraphError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # whatever an edited file raises
            result = Result({}, (), 1.0, Located(f"the model fails: {failure(error)}"))
            return self._proof(compilation, backend, text, [], ("", ""), result, start)
        derived, failed = None, ""
        if not compilation.inference:
            derived, failed = trace_evaluation_gradients(partial(tracer.trace, shape))
        joined = "".join(program.digest for program in programs)
        digest = hashlib.sha256(joined.encode()).hexdigest()
        digests = (digest, "" if derived is None else derived.digest)
        if known(*digests):
            return None
        binding = Generated(compilation, backend.layout)
        subject = Subject(
            compilation.graph,
            binding,
            tracer.parameters,
            programs[0],
            programs[1] if len(programs) > 1 else None,
            unread=binding.unread,
            evaluation_gradients=derived,
        )
        self._report(f"{title}: compare")
        trace: Trace = partial(tracer.trace, shape, activations=True)
        if misfit := binding.misfit(tracer, programs[0].counters):
            found = Result({}, (), 1.0, Located(misfit))
        else:
            found = self.compare(
                subject,
                lambda error, at: locate_and_describe(compilation, error, subject, at, trace),
            )
            if failed and found.difference is None:
                found = replace(found, difference=Located(failed))
        return self._proof(compilation, backend, text, programs, digests, found, start)

    def _proof(
        self,
        compilation: Compilation,
        backend: Backend,
        source: str,
        programs: Sequence[Program],
        digests: tuple[str, str],
        found: Result,
        start: float,
    ) -> FileProof:
        counts = [len(program.steps) for program in programs]
        return FileProof(
            backend=backend.name,
            option=compilation.options[0],
            size=self.size,
            operators=(sum(counts[:1]), sum(counts[1:])),
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
            declared, exact = self._declared(seed)
            at = Points(self._network, self._lowered, self.size, PrimeField(seed, LANES))
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

    def _declared(self, seed: int) -> tuple[Points, PrimeField]:
        """The points at which the declaration is evaluated, once for all files."""
        if seed not in self._points:
            exact = PrimeField(seed, LANES)
            self._points[seed] = Points(self._network, self._lowered, self.size, exact), exact
        return self._points[seed]

    def _polynomials(
        self, subject: Subject, constants: frozenset[Fraction]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """The largest degree and bits of an argument of an opaque function, and of a result."""
        degrees = Degrees(constants)
        points = Points(self._network, self._lowered, self.size, degrees)
        graph = subject.graph
        dual: list[Array] = []
        runs = [Run(subject, each, points, training=False) for each in subject.in_evaluation]
        if subject.evaluation_gradients is None:
            found = [largest(points.evaluation(graph).values.values())]
        else:
            found = []
            dual += points.derived(graph, training=False).values.values()
        if subject.training is not None:
            meaning = points.training(graph)
            dual += [*meaning.values.values(), *meaning.running.values()]
            runs.append(Run(subject, subject.training, points, training=True))
        found += [largest(each[part] for each in dual) for part in (0, 1)]
        found += [largest(run.values.values()) for run in runs]
        degree, bits = np.max(found, axis=0).tolist()
        # Then gradients are multiplied by a direction, derivatives by a cotangent.
        terms = sum(prod(tensor.shape) for tensor in self._lowered.tensors)
        (most, most_bits) = degrees.largest.tolist()
        return (most, most_bits), (degree + 1, bits + terms.bit_length())


@dataclass(frozen=True)
class Result:
    """What comparisons found: equal numbers of each group, or the first difference."""

    numbers: dict[str, int]
    points: tuple[Point, ...]
    bound: float
    difference: Located | None


def trace_evaluation_gradients(trace: Trace) -> tuple[Program | None, str]:
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
