"""Compares what a traced program computes exactly with a declaration, at random points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node
from cliquegraph.ir.ops import DrawColumn, Dropout, JoinWeights, Keep
from cliquegraph.proof.bind import Binding
from cliquegraph.proof.points import Overlaid, Points
from cliquegraph.proof.program import Context, Law, Program, Watch
from cliquegraph.semantics.arithmetic import Array, rational, survival
from cliquegraph.semantics.exact import law_of, sites_of
from cliquegraph.semantics.field import Exact
from cliquegraph.semantics.operations import Meaning

GRADIENTS, EVALUATION_GRADIENTS = "gradients", "gradients, evaluation"

WITH_GRADIENTS = "evaluation with gradients"
"""The mode of a forward pass in evaluation where gradients are enabled."""


class DifferenceError(VerificationError):
    """A program that does not compute what is declared; the message says what differs first.

    Attributes:
        what: the group of results, ``logits, training``.
        name: within it, a block or tensor.
        says_all: whether the message names the place, which need not be looked for.
        subject: the model, in the way in which it was executed.
    """

    subject: Subject | None = None

    def __init__(self, what: str, name: str = "", message: str = "") -> None:
        super().__init__(message or f"{what}{f', {name}' if name else ''}")
        self.what, self.name, self.says_all = what, name, bool(message)


@dataclass
class Compared:
    """What was found equal.

    Attributes:
        numbers: how many numbers of each group of results; those of gradients as one dot product.
        queries: how many arguments opaque functions received, on both sides.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    queries: int = 0

    def note(self, what: str, name: str, computed: Array | None, declared: Array) -> None:
        """Compare two arrays.

        Raises:
            DifferenceError: they are not equal, or not of one shape.
        """
        if computed is None or not np.array_equal(computed, declared):
            raise DifferenceError(what, name)
        self.numbers[what] = self.numbers.get(what, 0) + computed[0].size


@dataclass(frozen=True)
class Subject:
    """A traced model, and what is needed to compare it.

    Attributes:
        graph: the graph that the model executes, with the mirrors of its statistics.
        binding: its tensors.
        parameters: which of them are trained.
        evaluation: a program that computes the logits and features in evaluation.
        training: one with gradients, statistics and counters, unless the model is folded.
        evaluation_gradients: one that computes gradients in evaluation, as fine-tuning with fixed
            statistics does, unless the model is folded.
        unmoved: canonical statistics of updates that it does not execute, which do not move.
        unread: the model's own statistics and counters that do not move, whatever they hold.
        by_hand: whether somebody else wrote the model: it may draw in another order than the graph,
            and counters that the binding does not know are not compared.
        other: the same model, executed in the other of two ways, where it chooses by values.
    """

    graph: Graph
    binding: Binding
    parameters: frozenset[str]
    evaluation: Program
    training: Program | None
    unmoved: frozenset[str] = frozenset()
    by_hand: bool = False
    unread: frozenset[str] = frozenset()
    evaluation_gradients: Program | None = None
    other: Subject | None = None

    @property
    def ways(self) -> tuple[Subject, ...]:
        """The model in each way in which it may be executed."""
        return (self,) if self.other is None else (self, self.other)

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs, in each way."""
        return tuple(
            program
            for each in self.ways
            for program in (each.evaluation, each.training, each.evaluation_gradients)
            if program is not None
        )

    @property
    def in_evaluation(self) -> tuple[Program, ...]:
        """The programs in evaluation, without and with gradients."""
        derived = self.evaluation_gradients
        return (self.evaluation,) if derived is None else (self.evaluation, derived)

    def compare(self, points: Points, declared: Points | None = None) -> Compared:
        """Compare all results at random points.

        Args:
            points: those at which the programs are evaluated.
            declared: the same points, of which the declaration is evaluated at the same time, in a
                thread; default: ``points``, before the programs.

        Raises:
            DifferenceError: at the first difference.
        """
        compared = Compared()
        with ThreadPoolExecutor(max_workers=1) as beside:

            def begin(evaluate: Callable[[], Meaning]) -> Callable[[], Meaning]:
                if declared is None:
                    meaning = evaluate()
                    return lambda: meaning
                return beside.submit(evaluate).result

            of, derived = declared or points, self.evaluation_gradients is not None
            in_evaluation = begin(
                partial(of.derived, self.graph, training=False)
                if derived
                else partial(of.evaluation, self.graph)
            )
            in_training = None if self.training is None else begin(partial(of.training, self.graph))
            notes = []
            for each in self.ways:
                same = compared if each is self else Compared()  # which count once
                try:
                    notes.append(each._compare(same, points, in_evaluation, in_training, derived))
                except DifferenceError as different:
                    different.subject = each
                    raise
                if each is not self:
                    compared.queries += same.queries
            if notes[0] != notes[-1]:
                message = "a gradient is not the same where that of a scale is derived and summed"
                raise DifferenceError(GRADIENTS, message=message)
            compared.queries += of.queries(self.graph, training=False, derived=derived)
            if in_training is not None:
                compared.queries += of.queries(self.graph, training=True, derived=True)
        return compared

    def _compare(
        self,
        compared: Compared,
        points: Points,
        in_evaluation: Callable[[], Meaning],
        in_training: Callable[[], Meaning] | None,
        dual: bool,
    ) -> list[str]:
        """Compare the programs of one way; return their notes."""
        notes = []
        for program in self.in_evaluation:
            notes += self._compare_evaluation(compared, program, points, in_evaluation, dual=dual)
        if self.training is not None and in_training is not None:
            run = Run(self, self.training, points, training=True)
            meaning = in_training()
            _compare_outputs(compared, "training", run, meaning, dual=True)
            _compare_statistics(compared, run, meaning)
            compared.numbers[GRADIENTS] = compare_gradients(run, meaning)
            compared.queries += run.queries
            notes += run.notes
        return notes

    def _compare_evaluation(
        self,
        compared: Compared,
        program: Program,
        points: Points,
        declared: Callable[[], Meaning],
        *,
        dual: bool,
    ) -> list[str]:
        """Compare a program in evaluation, whose results are the same with gradients enabled."""
        run = Run(self, program, points, training=False)
        if program is self.evaluation:
            _compare_outputs(compared, "evaluation", run, declared(), dual=dual)
        else:  # the same numbers again, which count once
            _compare_outputs(Compared(), WITH_GRADIENTS, run, declared(), dual=dual)
        _require_unchanged(run)
        if program is not self.evaluation:
            numbers = compare_gradients(run, declared(), what=EVALUATION_GRADIENTS)
            compared.numbers[EVALUATION_GRADIENTS] = numbers
        compared.queries += run.queries
        return run.notes


class Run:
    """One evaluation of a program at random points."""

    def __init__(
        self,
        subject: Subject,
        program: Program,
        points: Points,
        training: bool,
        watch: Watch | None = None,
    ) -> None:
        self.subject, self.program, self.points = subject, program, points
        exact, binding = points.exact, subject.binding
        tensors = binding.own(points.tensors(subject.graph), exact)
        images = np.moveaxis(points.images, -3, -1) if program.channels_last else points.images
        inputs: dict[int, Array | None] = {program.images: images.copy()}
        inputs |= {number: tensors.pop(name) for name, number in program.tensors.items()}
        # Counters are numbers like others: of a model that computes with them, results differ.
        inputs |= {number: points.counter(name) for name, number in program.counters.items()}
        if program.cotangent is not None:
            inputs[program.cotangent] = points.cotangent(points.logits_shape)
        random = (_Matched if subject.by_hand else _Random)(subject.graph, points)
        before = exact.queries
        context = Context(exact, random.draw)
        self.values = program.run(context, inputs, watch)
        self.notes = context.notes
        self.queries = exact.queries - before
        random.require_all(training)

    def raw(self, number: int | None) -> Array | None:
        """Return an output with the axes that the framework gives it."""
        return None if number is None else self.values.get(number)

    def maps(self, number: int | None) -> Array | None:
        """Return an output; maps with the channels in front."""
        value = self.raw(number)
        if value is not None and self.program.channels_last and value.ndim == 5:
            return np.moveaxis(value, -1, -3)
        return value


class _Random:
    """Random choices of a program, which must be those of its graph."""

    def __init__(self, graph: Graph, points: Points) -> None:
        self._points = points
        self._sites = dict(sites_of(graph))
        self._graph = graph
        self._nodes = [
            node for node in graph.nodes if isinstance(node.op, Dropout | Keep | JoinWeights)
        ]
        self._columns = [
            ("column", rational(node.op.rate), node.op.columns)
            for node in graph.nodes
            if isinstance(node.op, DrawColumn)
        ]
        self._drawn: set[int] = set()
        self._drawn_columns: list[Law] = []

    def draw(self, number: int, law: Law, shape: tuple[int, ...]) -> Array:
        """Return a random choice, if the declaration has it."""
        if number < 0:
            self._drawn_columns.append(_normal(law))
            return self._points.exact.mask(0, *shape)
        number = self._declared_number(number, law, shape)
        if number >= len(self._nodes):
            raise DifferenceError("random choices", message="draws more often than declared")
        node = self._nodes[number]
        declared = law_of(self._graph, node)
        plain = declared[:3] if declared[0] == "join" else declared
        if not self._is_law(law, plain, shape):
            message = f"{node.origin}: draws {_words(law)}, declared is {_words(plain)}"
            raise DifferenceError("random choices", message=message)
        self._drawn.add(number)
        return self._points.mask(*self._sites[node], shape, declared)

    def _declared_number(self, number: int, law: Law, shape: tuple[int, ...]) -> int:
        """Which of the declared choices a drawing is."""
        return number

    def _is_law(self, law: Law, declared: Law, shape: tuple[int, ...]) -> bool:
        return _normal(law) == _normal(declared)

    def require_all(self, training: bool) -> None:
        """Require that all has been drawn in training, and nothing else."""
        if not training:
            if self._drawn or self._drawn_columns:
                raise DifferenceError("random choices", message="draws in evaluation")
            return
        absent = [node for i, node in enumerate(self._nodes) if i not in self._drawn]
        needed = _needed(self._graph) if absent else frozenset()
        if missing := [node for node in absent if node in needed]:
            message = (
                f"{missing[0].origin}: draws nothing, but {missing[0].op.mnemonic} is declared"
            )
            raise DifferenceError("random choices", message=message)
        if self._drawn_columns != self._columns:
            message = f"draws the columns {self._drawn_columns}, declared are {self._columns}"
            raise DifferenceError("random choices", message=message)


def _needed(graph: Graph) -> frozenset[Node]:
    """The nodes on which results of a graph depend, or running statistics after a training step.

    Of an update whose result nothing reads, a framework need not draw the mask: jax leaves out of a
    program what its results do not depend on.
    """
    read, needed = set(graph.outputs), set()
    for node in reversed(graph.nodes):
        moves = any(not operand.param.field.trainable for operand in node.operands)
        if moves or not read.isdisjoint(node.outputs):
            needed.add(node)
            read.update(node.inputs)
    return frozenset(needed)


class _Matched(_Random):
    """Random choices of a hand-written model: of those of one law and shape, the next declared."""

    def __init__(self, graph: Graph, points: Points) -> None:
        super().__init__(graph, points)
        self._numbers: dict[int, int] = {}

    def _declared_number(self, number: int, law: Law, shape: tuple[int, ...]) -> int:
        if number in self._numbers:
            return self._numbers[number]
        taken = set(self._numbers.values())
        for at, node in enumerate(self._nodes):
            place = self._sites[node]
            fits = at not in taken and self._is_law(law, law_of(self._graph, node), shape)
            if fits and self._points.shapes.get(place, shape) == shape:
                return self._numbers.setdefault(number, at)
        left = [node for at, node in enumerate(self._nodes) if at not in taken]
        should = "nothing more is declared"
        if left:
            law_left = law_of(self._graph, left[0])
            drawn = self._points.shapes.get(self._sites[left[0]], ())
            should = f"{left[0].origin} is declared to draw {_words(law_left)} for {drawn}"
        message = f"the model draws {_words(law)} for {shape}; {should}"
        raise DifferenceError("random choices", message=message)

    def _is_law(self, law: Law, declared: Law, shape: tuple[int, ...]) -> bool:
        law, declared = _normal(law), _normal(declared)
        if law[0] == "element" and declared[0] == "branch":  # one number for each image, or all
            images = self._points.images.shape[-4] if declared[2] else 1
            return law[1] == declared[1] and shape == (images, 1, 1, 1)
        return law == declared


def _normal(law: Law) -> Law:
    """A law with exact rates; those of what draws with the complement, as that rounds."""
    if law[0] in ("element", "branch") and isinstance(law[1], float):
        law = (law[0], 1 - survival(law[1]), *law[2:])
    return tuple(rational(each) if isinstance(each, float) else each for each in law)


def _words(law: Law) -> str:
    numbers = (repr(float(each)) if isinstance(each, float | Fraction) else each for each in law)
    kind, *others = map(str, numbers)
    return f"{kind} at {', '.join(others)}"


def _compare_outputs(
    compared: Compared, mode: str, run: Run, declared: Meaning, *, dual: bool
) -> None:
    def value(array: Array) -> Array:
        return array[0] if dual else array

    what = f"block features, {mode}"
    features = len(run.program.features)
    if features != len(declared.features) and not (run.subject.by_hand and not features):
        message = f"the model returns {features} block features, not {len(declared.features)}"
        raise DifferenceError(what, message=message)
    for index, (number, feature) in enumerate(
        zip(run.program.features, declared.features, strict=False), start=1
    ):
        compared.note(what, f"block{index}", run.maps(number), value(feature))
    logits = run.raw(run.program.logits)
    compared.note(f"logits, {mode}", "", logits, value(declared.logits))


def _compare_statistics(compared: Compared, run: Run, declared: Meaning) -> None:
    """Statistics after the pass; those of updates that the model does not execute stay."""
    subject, points = run.subject, run.points
    moved = {
        name: each[0] for name, each in declared.running.items() if name not in subject.unmoved
    }
    canonical = Overlaid(moved, points.tensors(subject.graph))
    statistics = [name for name in run.program.tensors if name not in subject.parameters]
    expected = subject.binding.own(canonical, points.exact, statistics)
    still = subject.unread.intersection(statistics)
    expected |= subject.binding.own(points.tensors(subject.graph), points.exact, still)
    for name in statistics:
        after = run.raw(run.program.after.get(name))
        compared.note("running statistics", name, after, expected[name])
    for counter in run.program.counters:
        mean = subject.binding.counters.get(counter)
        if mean is None and subject.by_hand:
            continue
        unmoved = mean in subject.unmoved or counter in subject.unread
        moves = None if mean is None or unmoved else declared.moves.get(mean)
        count = points.counter(counter)
        if moves is not None:
            count = points.exact.add(count, moves[0][..., 0])
        after = run.raw(run.program.after.get(counter))
        compared.note("counters of batches", counter, after, count)


def _require_unchanged(run: Run) -> None:
    """Require that a pass in evaluation leaves statistics and counters as they were.

    Raises:
        DifferenceError: it changes one.
    """
    subject, points, program = run.subject, run.points, run.program
    statistics = [name for name in program.tensors if name not in subject.parameters]
    before = subject.binding.own(points.tensors(subject.graph), points.exact, statistics)
    before |= {name: points.counter(name) for name in program.counters}
    for name, each in before.items():
        after = run.raw(program.after.get(name))
        if after is None or not np.array_equal(after, each):
            message = f"{name} is changed in evaluation"
            raise DifferenceError("state, evaluation", name, message)


def compare_gradients(
    run: Run, declared: Meaning, only: Sequence[str] | None = None, what: str = GRADIENTS
) -> int:
    """Compare gradients of some canonical tensors, or of all; return how many numbers they have.

    ⟨gradient, direction⟩ must be the derivative of ⟨logits, cotangent⟩ in that direction.

    Raises:
        DifferenceError: it is not.
    """
    exact, subject = run.points.exact, run.subject
    direction = run.points.direction(only)
    total, numbers = np.zeros_like(exact.draw()), 0
    for name in sorted(subject.parameters):
        gradient = run.raw(run.program.gradients.get(name))
        if gradient is None:
            continue
        along = subject.binding.own(direction, exact, [name])[name]
        if gradient.shape != along.shape:
            raise DifferenceError(what, name)
        total = exact.add(total, _dot(exact, gradient, along))
        numbers += along[0].size
    cotangent = run.points.cotangent(declared.logits.shape[2:])
    if not np.array_equal(total, _dot(exact, cotangent, declared.logits[1])):
        raise DifferenceError(what)
    return numbers


def _dot(exact: Exact, a: Array, b: Array) -> Array:
    product = exact.multiply(a, b)
    axes = tuple(range(1 - product.ndim, 0))
    return exact.total(product, axes) if axes else product


def largest(results: Iterable[Array]) -> Array:
    """Return the largest degree and bits of results, in an arithmetic of degrees."""
    found = np.zeros(2, np.int64)
    for array in results:
        found = np.maximum(found, array.reshape(2, -1).max(axis=1, initial=0))
    return found
