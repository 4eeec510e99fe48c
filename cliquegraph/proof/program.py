"""Traced programs: what a model's file executes, operator by operator, to evaluate it exactly.

A backend traces a live model into a ``Program`` of its framework's own operators; each step knows
how to compute its results in exact arithmetic. In front of the axes that the framework knows,
arrays have the lanes of the arithmetic, so steps count axes from the end. Results may be views, and
steps may write into what they read, as in the framework.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import Array
from cliquegraph.semantics.field import Exact

Law = tuple[object, ...]
"""What a random choice is drawn from, in the words of the declaration (``operations.Law``).

``("element", rate)`` of dropout, ``("branch", rate, per_image)`` of drop-path, ``("join", rate,
columns)`` of the operands of a join, and ``("column", rate, columns)``, which joins share.
"""


class Draws(Protocol):
    """Supplies what a program draws at random."""

    def __call__(self, number: int, law: Law, shape: tuple[int, ...], /) -> Array:
        """Return random choices.

        Args:
            number: which drawing it is, in the order in which the model executes them; one that is
                executed again in a backward pass keeps its number. Columns are not numbered: -1.
            law: what it is drawn from.
            shape: of the result; the elements of maps are (batch, channels, height, width).
        """


@dataclass
class Context:
    """What steps need beside the arrays that they read.

    Attributes:
        exact: the arithmetic.
        draw: supplies random choices.
        notes: digests of what each part of a program returns that is executed in one of two ways.
    """

    exact: Exact
    draw: Draws
    notes: list[str] = field(default_factory=list)


Watch = Callable[["Step", "Sequence[Array | None]"], None]
"""Called after each step with the arrays that it wrote."""

Apply = Callable[..., "Sequence[Array | None] | Array"]
"""Called with the context and the arrays read, in order; returns one for each value written."""


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        operator: its name in the framework, ``aten.convolution.default``.
        attributes: its constant arguments as text; with the others, all that determines results.
        reads: the values that it reads, by number.
        writes: those that it computes.
        mutates: those of ``reads`` into which it writes.
        apply: computes them.
        line: the line of the model's source that called it, in a forward pass.
    """

    operator: str
    attributes: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    apply: Apply = field(compare=False, repr=False)
    mutates: tuple[int, ...] = ()
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Program:
    """A traced function of a model, from images, tensors and a cotangent.

    With gradients the function is ⟨logits, cotangent⟩, else there is neither.

    Attributes:
        steps: the operators in order of execution.
        images: the value that contains the images.
        cotangent: the value that contains the cotangent, of the shape of the logits.
        tensors: the values that contain the model's tensors at the beginning, by their names.
        counters: the same of its counters of batches, which are numbers.
        logits: the results.
        features: the block features, first to last; none if the model does not return them.
        gradients: the gradient of each parameter; None where the framework has none.
        after: the value of each running statistic and counter at the end.
        activations: the version of each layer by its name (``block1.X2@1``), if traced.
        channels_last: whether maps are (batch, height, width, channels).
    """

    steps: tuple[Step, ...]
    images: int
    cotangent: int | None
    tensors: Mapping[str, int]
    counters: Mapping[str, int]
    logits: int
    features: tuple[int, ...] = ()
    gradients: Mapping[str, int | None] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    activations: Mapping[str, int] = field(default_factory=dict)
    channels_last: bool = False

    @property
    def outputs(self) -> frozenset[int]:
        """The values that outlive the program."""
        kept = [self.logits, *self.features, *self.after.values(), *self.activations.values()]
        return frozenset([*kept, *(each for each in self.gradients.values() if each is not None)])

    @property
    def digest(self) -> str:
        """SHA-256 of everything that determines the results: not of names of variables or lines."""
        described = [
            *((step.operator, step.attributes, step.reads, step.writes) for step in self.steps),
            (self.images, self.cotangent, self.logits, self.features, self.channels_last),
            *(sorted(each.items()) for each in (self.tensors, self.counters, self.gradients)),
            *(sorted(each.items()) for each in (self.after, self.activations)),
        ]
        text = "\n".join(map(repr, described))
        return hashlib.sha256(text.encode()).hexdigest()

    def run(
        self,
        context: Context,
        inputs: dict[int, Array | None],
        watch: Watch | None = None,
    ) -> dict[int, Array]:
        """Evaluate the program exactly.

        Args:
            context: the arithmetic, and the random choices.
            inputs: the array of each input; each is removed when it has been read last.
            watch: called after each step with what it wrote.

        Returns:
            the array of each of ``outputs``.

        Raises:
            VerificationError: an operator can't be computed; names it and the line.
        """
        values = inputs
        last = {number: at for at, step in enumerate(self.steps) for number in step.reads}
        kept = self.outputs
        for at, step in enumerate(self.steps):
            try:
                result = step.apply(context, *(values[number] for number in step.reads))
            except VerificationError as error:
                if type(error) is not VerificationError:
                    raise  # it says what differs
                where = step.operator if step.line is None else f"line {step.line}: {step.operator}"
                raise VerificationError(f"{where} {error}") from None
            written = (result,) if isinstance(result, np.ndarray) else tuple(result)
            values.update(zip(step.writes, written, strict=True))
            if watch is not None:
                watch(step, written)
            for number in (*step.reads, *step.writes):
                if last.get(number, -1) <= at and number not in kept:
                    values.pop(number, None)
        results = {number: values[number] for number in kept}
        return {number: array for number, array in results.items() if array is not None}


class Tracer(Protocol):
    """A model of a framework, in float64 on the CPU, that can be traced."""

    @property
    def model(self) -> object:
        """The model."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of its parameters and running statistics, by their names."""

    @property
    def parameters(self) -> frozenset[str]:
        """Which of them are trained."""

    @property
    def chooses(self) -> bool:
        """Whether a backward pass chooses by values of scales between two ways to one result."""

    def trace(
        self,
        shape: tuple[int, int, int, int],
        mode: Literal["training", "evaluation"],
        *,
        gradients: bool = False,
        activations: bool = False,
        derives: bool = False,
    ) -> Program:
        """Trace one call of the model.

        Args:
            shape: of the images: (batch, channels, height, width).
            mode: in training, running statistics move, and random choices are drawn.
            gradients: with respect to all parameters, of ⟨logits, cotangent⟩.
            activations: also return each version of each layer.
            derives: which of the two ways is executed, where the model ``chooses``.

        Raises:
            VerificationError: the model calls an operator whose meaning in exact arithmetic is not
                known, or what it computes depends on the values of tensors; names the line.
        """
