"""The first place in the order of execution at which a traced model differs from a declaration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cliquegraph.proof.compare import (
    EVALUATION_GRADIENTS,
    GRADIENTS,
    WITH_GRADIENTS,
    DifferenceError,
    Run,
    Subject,
    compare_gradients,
)
from cliquegraph.proof.points import Points
from cliquegraph.proof.program import Program
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.operations import Meaning, Place

Mode = Literal["training", "evaluation"]


class Trace(Protocol):
    """Traces a model in a mode, with its activations."""

    def __call__(self, mode: Mode, /, *, gradients: bool = False) -> Program:
        """Return the program, in evaluation of a pass where gradients are enabled if wanted."""


@dataclass(frozen=True)
class Located:
    """Where a model differs.

    Attributes:
        message: what differs, in one sentence.
        line: the line of the model's source, if it is known.
        place: the update whose value differs, if it is one.
        value: the value, in the program with activations.
    """

    message: str
    line: int | None = None
    place: Place | None = None
    value: int | None = None

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


def locate(
    different: DifferenceError,
    subject: Subject,
    points: Points,
    trace: Trace,
) -> Located:
    """Return the first difference.

    Args:
        different: what a comparison found.
        subject: the model.
        points: those of the comparison.
        trace: traces the model in a mode with its activations.
    """
    if different.says_all:
        return Located(str(different))
    subject = different.subject or subject
    if different.what in ("running statistics", "counters of batches"):
        return _of_statistic(different, subject, points)
    if different.what in (GRADIENTS, EVALUATION_GRADIENTS):
        return _of_gradient(subject, points, training=different.what == GRADIENTS)
    return _of_forward(different, subject, points, traced(different, trace))


def mode_of(different: DifferenceError) -> Mode:
    """The mode of a forward pass that differs."""
    return "training" if different.what.endswith("training") else "evaluation"


def traced(different: DifferenceError, trace: Trace) -> Program:
    """Trace a forward pass that differs."""
    return trace(mode_of(different), gradients=different.what.endswith(WITH_GRADIENTS))


def _of_forward(
    different: DifferenceError, subject: Subject, points: Points, program: Program
) -> Located:
    mode = mode_of(different)
    training = mode == "training"
    when = WITH_GRADIENTS if different.what.endswith(WITH_GRADIENTS) else mode
    run = Run(subject, program, points, training=training)
    meaning = points.training(subject.graph) if training else points.evaluation(subject.graph)
    lines = {number: step.line for step in program.steps for number in step.writes}
    for place, declared in _versions(meaning):
        number = program.activations.get(_name(place))
        if number is None:
            continue
        if not np.array_equal(_array(run.maps(number)), declared[0] if training else declared):
            message = f"{_words(place, meaning)} is not as declared, in {when}"
            return Located(message, lines[number], place if place.layer else None, number)
    what = (
        f"{different.name}: the block feature"
        if different.name
        else "a readout, or the classifier,"
    )
    return Located(f"{what} is not as declared, in {when}; all versions of layers are")


def _versions(meaning: Meaning) -> Iterator[tuple[Place, Array]]:
    """X0 of each block, which a boundary writes, and the version of each layer, in order."""
    for place, value in meaning.values.items():
        if place.section == "stem":
            yield Place("block1", layer=0), value
        elif place.section.startswith("transition"):
            before = int(place.section.removeprefix("transition"))
            yield Place(f"block{before + 1}", layer=0), value
        elif place.layer is not None:
            yield place, value


def _name(place: Place) -> str:
    """The name of a version in ``activations``."""
    stage = "" if place.layer == 0 else f"@{place.stage}"
    return f"{place.section}.X{place.layer}{stage}"


def _words(place: Place, meaning: Meaning) -> str:
    if place.layer == 0:
        return f"{place.section}: X0"
    reads = meaning.reads.get(place, "")
    return f"{place}: X{place.layer}@{place.stage}, of {{{reads}}},"


def _array(array: Array | None) -> Array:
    return np.zeros(0) if array is None else array


def _of_statistic(different: DifferenceError, subject: Subject, points: Points) -> Located:
    counter = subject.binding.counters.get(different.name)
    names = (counter,) if counter else subject.binding.canonical(different.name)
    meaning = points.training(subject.graph)
    places = [
        place
        for place, moved in meaning.statistics.items()
        if any(name in moved for name in names if name)
    ]
    where = f"{places[0]}: " if places else ""
    what = "counts batches" if different.what.startswith("counters") else "moves"
    return Located(f"{where}{different.name} {what} not as declared")


def _of_gradient(subject: Subject, points: Points, *, training: bool) -> Located:
    """Name the last tensor with another gradient, the first in a backward pass, by bisection."""
    program = subject.training if training else subject.evaluation_gradients
    assert program is not None  # noqa: S101  # there is no gradient otherwise
    run = Run(subject, program, points, training=training)
    held = {
        name: number
        for own, number in program.tensors.items()
        for name in subject.binding.canonical(own)
    }
    names = [name for name in points.names if name in held]

    def differs(some: Sequence[str]) -> bool:
        try:
            derived = points.derived(subject.graph, training=training, only=some)
            compare_gradients(run, derived, some)
        except DifferenceError:
            return True
        return False

    while len(names) > 1:
        middle = len(names) // 2
        names = names[middle:] if differs(names[middle:]) else names[:middle]
    (name,) = names
    steps = (step.line for step in program.steps if held[name] in step.reads)
    line = next((line for line in steps if line is not None), None)
    mode = "" if training else ", in evaluation"
    return Located(f"the gradient of {name} is not as declared{mode}", line)
