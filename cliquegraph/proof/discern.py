"""The first update in which a hand-written model is not the declared network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cliquegraph.blocks.model import Skip, walk
from cliquegraph.blocks.registry import blocks_of
from cliquegraph.compiler import Compilation
from cliquegraph.ir.names import is_edge_kernel, tensor_name
from cliquegraph.proof.compare import (
    EVALUATION_GRADIENTS,
    GRADIENTS,
    WITH_GRADIENTS,
    DifferenceError,
    Run,
    Subject,
)
from cliquegraph.proof.locate import Located, Trace, locate, mode_of, traced
from cliquegraph.proof.occurs import Computed, Labels, Prints, prints
from cliquegraph.proof.points import Overlaid, Points
from cliquegraph.proof.program import Step
from cliquegraph.proof.reads import Reader, Reads
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.operations import EPS, Place
from cliquegraph.steps.graph import BlockSteps, Edge, Feature

_WORDS = {
    "Conv": "convolution",
    "Norm": "normalization",
    "GroupNorm": "group normalization",
    "LocalResponse": "local response normalization",
    "Relu": "ReLU",
    "Bias": "bias",
    "Gate": "gate",
    "MaxPool": "max pool",
    "AvgPool": "average pool",
    "Upsample": "upsampling",
    "Dropout": "dropout",
    "Skip": "skip",
    "Sum": "sum",
    "Linear": "linear layer",
    "Attention": "attention",
}
STATISTICS = ("running statistics", "counters of batches")
_MOMENTA = [Fraction(n, 1000) for n in range(1, 1001)]
_MOST = 20_000  # numbers of each channel in a batch


@dataclass(frozen=True)
class Discerner:
    """Names the first difference between a declaration and a hand-written model.

    Attributes:
        compilation: the declaration.
        subject: the model.
        trace: traces the model in a mode.
    """

    compilation: Compilation
    subject: Subject
    trace: Trace

    def locate(self, different: DifferenceError, points: Points) -> Located:
        """Return the first difference."""
        if different.what in STATISTICS:
            return self._of_statistic(different, points)
        if different.what in (GRADIENTS, EVALUATION_GRADIENTS):
            found = locate(different, self.subject, points, self.trace)
            return Located(f"{found.message}; all values are", found.line)
        if different.says_all:
            return Located(str(different))
        return _Forward(self, points, different).locate()

    # ---- statistics --------------------------------------------------------------------------

    def _of_statistic(self, different: DifferenceError, points: Points) -> Located:
        found = locate(different, self.subject, points, self.trace)
        if different.what.startswith("counters"):
            return found
        why = self._how_it_moves(different.name, points)
        return Located(f"{found.message}{why}; logits are" if why else found.message, found.line)

    def _how_it_moves(self, name: str, points: Points) -> str:
        """Say what a running statistic does instead, if it is one of the usual ways."""
        subject = self.subject
        assert subject.training is not None  # noqa: S101  # hand-written models are trained
        run = Run(subject, subject.training, points, training=True)
        after = run.raw(subject.training.after.get(name))
        declared = points.training(subject.graph)
        canonical = points.tensors(subject.graph)
        before = subject.binding.own(canonical, points.exact, [name])[name]
        moved = {each: value[0] for each, value in declared.running.items()}
        expected = subject.binding.own(Overlaid(moved, canonical), points.exact, [name])[name]
        if after is None or np.array_equal(after, before):
            return ": the model does not move it"
        exact = points.exact
        way = exact.subtract(after, before)
        right = exact.subtract(expected, before)
        for momentum in _MOMENTA:
            if np.array_equal(way, exact.scale(right, momentum * 10)):
                return f": it moves by {float(momentum)} of the way, declared is 0.1"
        # 0.1 × observed: of the biased variance (n - 1) / n of it.
        observed = exact.subtract(expected, exact.scale(before, Fraction(9, 10)))
        seen = exact.subtract(after, exact.scale(before, Fraction(9, 10)))
        for count in range(2, _MOST):
            if not np.array_equal(
                seen[:, :1], exact.scale(observed[:, :1], Fraction(count - 1, count))
            ):
                continue
            if np.array_equal(seen, exact.scale(observed, Fraction(count - 1, count))):
                return ": it moves toward the biased variance, declared is the unbiased one"
        return ""


def locate_and_describe(
    compilation: Compilation,
    different: DifferenceError,
    subject: Subject,
    points: Points,
    trace: Trace,
) -> Located:
    """Name the first difference of a generated file, with what its update reads and computes.

    Args:
        compilation: what the file is generated from.
        different: what a comparison found.
        subject: the model.
        points: those of the comparison.
        trace: traces the model in a mode, with its activations.
    """
    subject = different.subject or subject
    if different.what in STATISTICS:
        return Discerner(compilation, subject, trace).locate(different, points)
    located = locate(different, subject, points, trace)
    if located.place is None or compilation.inference or subject.evaluation.channels_last:
        return located  # updates are recognized by PyTorch's operators
    forward = _Forward(Discerner(compilation, subject, trace), points, different)
    if compilation.graph.slabs:  # what an update reads is in one buffer with all else
        return Located(located.message, forward.line_of(located.value))
    found = forward.describe(located.place, located.value)
    detail = found.message.partition(": ")[2].removesuffix(forward.in_mode)
    return Located(f"{located.message}: {detail}", located.line)


class _Forward:
    """The first difference in a forward pass."""

    def __init__(self, discerner: Discerner, points: Points, different: DifferenceError) -> None:
        self._compilation, self._mode = discerner.compilation, mode_of(different)
        self._with_gradients = different.what.endswith(WITH_GRADIENTS)
        self._steps = {f"block{block.index}": block for block in self._compilation.steps.blocks}
        subject, training = discerner.subject, self._mode == "training"
        program = traced(different, discerner.trace)
        self._computed = Computed(subject, program, points, training=training)
        graph = subject.graph
        self._meaning = points.training(graph) if training else points.evaluation(graph)
        self._trail: dict[Place, list[tuple[str, Prints]]] = {}
        points.observe(graph, self._note, training=training)
        self._values = {place: prints(self._value(v)) for place, v in self._meaning.values.items()}
        tensors = {name: prints(each) for name, each in points.tensors(graph).items()}
        edges = {
            tensor_name(tensor): Edge(tensor.slot.section.index, tensor.slot.source or 0, layer)
            for tensor in self._compilation.lowered.tensors
            if is_edge_kernel(tensor.slot) and (layer := tensor.slot.layer) is not None
        }
        self._kernels = {name: edge for name, edge in edges.items() if name.endswith("weight")}
        self._reader = Reader(
            self._computed,
            Labels(tensors),
            Labels(dict(self._versions())),
            frozenset(self._kernels),
        )

    def _note(self, place: Place, word: str, value: Array) -> None:
        self._trail.setdefault(place, []).append((word, prints(value)))

    def _value(self, array: Array) -> Array:
        return array[0] if self._mode == "training" else array

    def _versions(self) -> Iterator[tuple[str, Prints]]:
        """The prints of all versions, and of X0 of each block, by name."""
        for block, value in self._meaning.inputs.items():
            yield f"{block}.X0", prints(self._value(value))
        for place in self._values:
            if place.layer is not None:
                yield _version_at(place), self._values[place]

    # ---- the place -----------------------------------------------------------------------

    def locate(self) -> Located:
        """Return the first difference."""
        absent = [place for place in self._values if self._is_absent(place)]
        for place in absent:
            # A value that the model does not compute as such may be in what reads it.
            if not self._is_implied(place):
                return self.describe(place)
        return Located(
            "every update's value is in the model, but its logits are others"
            f"{self.in_mode or ', in evaluation'}"
        )

    def _is_absent(self, place: Place) -> bool:
        if place.section.startswith("block") and place.layer is None:
            return False  # a concatenation, which need not be computed
        if place.section == "classifier" and place.stage is None and self._over_time:
            return False
        return self._computed.occurs(self._values[place]) is None

    @property
    def _over_time(self) -> bool:
        return any(place.section == "classifier" and place.stage for place in self._values)

    def _is_implied(self, place: Place) -> bool:
        """Whether something that is computed from a value occurs."""
        version = f"X{place.layer}@{place.stage}" if place.layer is not None else "X0"
        section = place.section
        if place.section == "stem":
            section = "block1"
        elif place.section.startswith("transition"):
            section = f"block{int(place.section.removeprefix('transition')) + 1}"
        readers = [
            other
            for other, reads in self._meaning.reads.items()
            if other.section == section and version in reads.split(", ")
        ]
        return any(not self._is_absent(other) for other in readers)

    def line_of(self, value: int | None) -> int | None:
        """The line of the first step that computes a value, which may be copied later."""
        wanted = None if value is None else self._computed.prints[value]
        return next(
            (
                step.line
                for step in self._computed.program.steps
                if any(self._computed.prints.get(each) == wanted for each in step.writes)
            ),
            None,
        )

    # ---- what differs there --------------------------------------------------------------------

    def describe(self, place: Place, value: int | None = None) -> Located:
        """Say what the update at a place reads and computes instead.

        Args:
            place: the update.
            value: its result, if it is known; else it is found by the tensors that it uses.
        """
        used = self._meaning.used.get(place, [])
        ordinals = {name: self._users(name).index(place) for name in used}
        unused = [name for name in used if not self._reader.calls(name)]
        visited: dict[int, Step] = {}
        read: Reads = frozenset()
        if value is None:
            anchors = self._reader.anchors(ordinals)
        else:
            read = self._reader.reads(value, place.section, through=True, visited=visited)
            anchors = []
        where = str(place) if place.section != "classifier" else "classifier"
        line = next((step.line for step in reversed(anchors) if step.line is not None), None)
        never = "".join(f"; nothing uses {_slot(name)}" for name in unused[:3])
        declared = self._declared_reads(place)
        if value is not None and read == {(_version_at(place), None)}:
            return Located(f"{where}: the model computes it, and then changes it", line)
        found = read if value is not None else self._found_reads(place, anchors, declared)
        if found is not None and declared is not None and found != declared:
            by_kernel = {v for v, _ in found} == {v for v, _ in declared}
            reads = f"{{{self._words(found, by_kernel)}}}"
            should = f"{{{self._words(declared, by_kernel)}}}"
            return Located(f"{where}: the model reads {reads}, declared is {should}{never}", line)
        around = list(visited.values()) or self._reader.around(anchors)
        others = self._other_tensors(around, used)
        if others:
            return Located(f"{where}: {others}{self.in_mode}", line)
        if unused:
            names = ", ".join(list(dict.fromkeys(map(_slot, unused)))[:3])
            return Located(f"{where}: nothing uses {names}{self.in_mode}", line)
        return Located(f"{where}: {self._operation(place, anchors, around)}{self.in_mode}", line)

    @property
    def in_mode(self) -> str:
        """The end of a sentence, but in evaluation."""
        if self._with_gradients:
            return f", in {WITH_GRADIENTS}"
        return ", in training" if self._mode == "training" else ""

    def _users(self, name: str) -> list[Place]:
        return [place for place, used in self._meaning.used.items() if name in used]

    def _declared_reads(self, place: Place) -> Reads | None:
        """What is declared to be read, with the kernels of pairs."""
        if place.section.startswith("block"):
            block = self._steps[place.section]
            step = next(
                (
                    step
                    for step in block.steps
                    if (step.stage, step.layer) == (place.stage, place.layer)
                ),
                None,
            )
            if step is None:
                return None
            kernels = {edge: name for name, edge in self._kernels.items()}
            pairs = zip(step.reads, step.weights, strict=True)
            return frozenset(
                (_version(feature), kernels.get(edge) if edge else None) for feature, edge in pairs
            )
        before = self._block_before(place)
        if before is None:
            return None
        features = before.transit if place.section.startswith("transition") else before.feature
        if place.stage is not None:
            features = next(r.features for r in before.readings if r.stage == place.stage)
        return frozenset((_version(feature), None) for feature in features)

    def _block_before(self, place: Place) -> BlockSteps | None:
        for part in ("transition", "readout"):
            if place.section.startswith(part):
                return self._steps[f"block{place.section.removeprefix(part)}"]
        return None

    def _found_reads(
        self, place: Place, anchors: list[Step], declared: Reads | None
    ) -> Reads | None:
        """What the model reads, as far as its steps tell."""
        if declared is None:
            return None
        computed = self._computed
        if not anchors and place.section.startswith("readout"):
            anchors = self._reader.calls("classifier.weight")[:1]
            sources = [n for step in anchors for n in computed.maps_read(step)]
        else:
            sources = [n for step in anchors for n in step.writes if n in computed.prints]
        block = place.section
        if (before := self._block_before(place)) is not None:
            block = f"block{before.index}"
        if not sources:
            return None
        read: list[tuple[str, str | None]] = []
        for number in sources:
            read += self._reader.reads(number, block, through=True)
        of_kernels = frozenset(read)
        if of_kernels == declared and not self._has_skip(place):
            return declared
        for step in anchors if block == place.section else ():
            read += self._reader.reads(self._reader.end(step), block, through=True)
        whole = frozenset(read)
        if whole == declared:
            return declared
        summed = any(kernel is None for _, kernel in declared) or len(anchors) > 1
        fewer = len(of_kernels) < len(declared)
        return whole if summed or fewer or self._has_skip(place) else of_kernels

    def _has_skip(self, place: Place) -> bool:
        if place.layer is None:
            return False
        block = blocks_of(self._compilation.network.blocks)[int(place.section[len("block") :]) - 1]
        layer = block.layer(place.layer)
        each = [op for ops in (layer.ops, *(r.ops for r in layer.reads)) for op in walk(ops)]
        return any(isinstance(op, Skip) for op in each)

    def _words(self, reads: Reads, by_kernel: bool) -> str:
        """Reads as text, X0 first."""
        blocks = {version.partition(".")[0] for version, _ in reads}
        words = []
        for version, kernel in sorted(reads, key=lambda each: (_order(each[0]), each[1] or "")):
            block, _, name = version.partition(".")
            if not name or (len(blocks) > 1 and name != "X0"):
                name = version if not name else f"{name} of {block}"
            if by_kernel and kernel is not None:
                name += f" by {self._kernels[kernel]}"
            words.append(name)
        return ", ".join(dict.fromkeys(words))

    # ---- the operation -------------------------------------------------------------------------

    def _operation(self, place: Place, anchors: list[Step], around: list[Step]) -> str:
        """Say what differs in an update that reads what it should."""
        trail = self._trail.get(place, [])
        present = [self._computed.occurs(each) is not None for _, each in trail]
        first = next((at for at, there in enumerate(present) if not there), None)
        # Edges may be computed together: then their own results don't occur, but later ones do.
        # Of a layer with a skip, later ones may be those of its projection.
        if True in present and not self._has_skip(place):
            first = len(present) - present[::-1].index(True)
        if first is None or first >= len(trail):
            first = next((at for at, there in enumerate(present) if not there), None)
        what = "what it computes"
        if trail and all(present):
            what += f" after its {_WORDS.get(trail[-1][0], trail[-1][0])}"
        elif first is not None and first < len(trail):
            what = f"what its {_WORDS.get(trail[first][0], trail[first][0])} computes"
        return f"{what} is not in the model{self._size(place, anchors)}{self._eps(around)}"

    def _size(self, place: Place, anchors: list[Step]) -> str:
        """Say so if the model's maps have another size."""
        wanted = self._value(self._meaning.values[place]).shape[-2:]
        for step in anchors[-1:]:
            shape = self._computed.shapes[self._reader.end(step)]
            if len(shape) == 4 and self._meaning.values[place].ndim >= 5 and shape[-2:] != wanted:
                sizes = (f"{each[0]}×{each[1]}" for each in (shape[-2:], wanted))
                return ": its maps have {} pixels, declared are {}".format(*sizes)
        return ""

    def _eps(self, around: list[Step]) -> str:
        """Say so if a normalization has another ε."""
        for step in around:
            numbers = re.findall(r"\d[\d.e-]*", step.attributes)
            if "batch_norm" in step.operator and numbers and float(numbers[-1]) != float(EPS):
                return f": the ε of its normalization is {numbers[-1]}, declared is {float(EPS)}"
        return ""

    def _other_tensors(self, around: list[Step], used: list[str]) -> str:
        """Say so if its steps use other tensors than declared."""
        found = dict.fromkeys(_slot(n) for step in around for n in self._reader.tensors_of(step))
        declared = dict.fromkeys(map(_slot, used))
        extra = [name for name in found if name not in declared]
        lacking = [name for name in declared if name not in found]
        if extra:
            should = f", declared is {lacking[0]}" if lacking else ", which is not declared"
            return f"the model uses {extra[0]}{should}"
        return ""


def _slot(name: str) -> str:
    """The name without that of a normalization's tensor."""
    slot, _, field = name.rpartition(".")
    return slot if field in ("scale", "bias", "mean", "var", "weight") else name


def _version_at(place: Place) -> str:
    return f"{place.section}.X{place.layer}@{place.stage}"


def _version(feature: Feature) -> str:
    return f"block{feature.block}.{feature}"


def _order(version: str) -> tuple[str, int, int]:
    block, _, name = version.partition(".")
    layer, _, stage = name.removeprefix("X").partition("@")
    return block, int(layer) if layer.isdigit() else 0, int(stage or 0)
