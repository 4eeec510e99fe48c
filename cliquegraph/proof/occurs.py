"""Where the values of a declaration occur in what a traced program computes.

Values are compared by fingerprints, one for each channel, so that they are found in concatenations
and parts of maps too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from cliquegraph.proof.compare import Run, Subject
from cliquegraph.proof.points import Points
from cliquegraph.proof.program import Program, Step
from cliquegraph.semantics.arithmetic import Array

Prints = tuple[int, ...]
"""The fingerprints of a value's channels."""

_MAPS = 5  # axes: lanes, batch or filters, channels, height, width


def prints(array: Array) -> Prints:
    """Return the fingerprint of each channel of maps, or of each last element of others."""
    if sum(side > 1 for side in array.shape[1:]) <= 1:  # a vector, however it is turned
        array = array.reshape(len(array), -1)
    array = np.moveaxis(array, -3 if array.ndim >= _MAPS else -1, 0)
    flat = array.reshape(len(array), -1).astype(np.uint64)
    return tuple((flat @ _weights(array.shape[1:])).tolist())


@lru_cache(maxsize=256)
def _weights(shape: tuple[int, ...]) -> Array:
    """Random odd numbers for arrays of a shape, others for each shape."""
    random = np.random.default_rng((len(shape), *shape))
    drawn = random.integers(0, 2**63, int(np.prod(shape)), dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


class Computed:
    """Everything that one evaluation of a program computes.

    Attributes:
        program: the program.
        prints: the fingerprints of each value.
        shapes: the shape of each value, without lanes.
        producers: the step that computes each value.
        consumers: the steps that read each value.
        held: the values that consist of the model's tensors alone: parts, concatenations, views;
            with the canonical names of what they consist of.
    """

    def __init__(self, subject: Subject, program: Program, points: Points, *, training: bool):
        self.program = program
        self.prints: dict[int, Prints] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.producers: dict[int, Step] = {}
        self.consumers: dict[int, list[Step]] = {}
        self.held: dict[int, tuple[str, ...]] = {}
        self._arrays: dict[int, Array] = {}
        Run(subject, program, points, training=training, watch=self._watch)
        self.tensors = subject.binding.own(points.tensors(subject.graph), points.exact)
        for name, number in program.tensors.items():
            self._note(number, self.tensors[name])
            self.held[number] = subject.binding.canonical(name)
        for step in program.steps:
            for number in dict.fromkeys(step.reads):
                self.consumers.setdefault(number, []).append(step)
            if step.reads and self.held.keys() >= set(step.reads) and not step.mutates:
                names = tuple(dict.fromkeys(n for each in step.reads for n in self.held[each]))
                self.held.update(dict.fromkeys(step.writes, names))
        self._arrays.clear()
        self._where: dict[int, list[tuple[int, int]]] = {}
        for number, each in self.prints.items():
            for channel, found in enumerate(each):
                self._where.setdefault(found, []).append((number, channel))

    def _watch(self, step: Step, written: Sequence[Array | None]) -> None:
        for number, array in zip(step.writes, written, strict=True):
            if array is not None and array.ndim > 1 and array.size:
                self._note(number, array)
                self._arrays[number] = array
                self.producers[number] = step
        if step.mutates:  # what shares memory has changed
            for array in [each for each in written if each is not None][:1]:
                for number, other in self._arrays.items():
                    if number not in step.writes and np.may_share_memory(array, other):
                        self._note(number, other)

    def _note(self, number: int, array: Array) -> None:
        if array.ndim > 1:
            self.prints[number] = prints(array)
            self.shapes[number] = array.shape[1:]

    def occurs(self, wanted: Prints) -> int | None:
        """Return a value that contains these channels in a row, if there is one."""
        if not wanted:
            return None
        for number, channel in self._where.get(wanted[0], ()):
            if self.prints[number][channel : channel + len(wanted)] == wanted:
                return number
        return None

    def maps_read(self, step: Step) -> list[int]:
        """The values that a step reads, other than the model's tensors and constants."""
        found = []
        for number in dict.fromkeys(step.reads):
            producer = self.producers.get(number)
            constant = producer is not None and not producer.reads
            if number in self.prints and number not in self.held and not constant:
                found.append(number)
        return found


class Labels:
    """Which channels are those of known tensors or values."""

    def __init__(self, known: Mapping[str, Prints]) -> None:
        self._known: dict[int, list[tuple[str, int]]] = {}
        for name, each in known.items():
            for channel, found in enumerate(each):
                self._known.setdefault(found, []).append((name, channel))

    def names(self, found: int) -> list[str]:
        """The names of what has a channel of this fingerprint."""
        return [name for name, _ in self._known.get(found, ())]
