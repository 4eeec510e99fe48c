"""What the operations of a declaration compute from canonical tensors, place by place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

import numpy as np

from cliquegraph.blocks.model import (
    AvgPool,
    Bias,
    Conv,
    Dropout,
    Gate,
    GroupNorm,
    JoinDrop,
    LocalResponse,
    MaxPool,
    Norm,
    Op,
    Ops,
    Relu,
    Skip,
    Upsample,
    walk,
)
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.semantics.arithmetic import (
    Arithmetic,
    Array,
    average_pool,
    convolve,
    convolve_depthwise,
    group_normalize,
    local_response,
    max_pool,
    mean,
    move,
    per_channel,
    survival,
    upsample,
)
from cliquegraph.semantics.shapes import stride_of
from cliquegraph.semantics.sites import Part, Site

EPS = Fraction(1, 100_000)
MOMENTUM = Fraction(1, 10)

Law = tuple[object, ...]
"""What a random choice is drawn from: its kind, its rates, and for a join what else it reads."""

Masks = Callable[["Place", int, tuple[int, ...], Law], Array]
"""The result of a random choice, from its place, its number there from 0, its shape and law."""

Observe = Callable[["Place", str, Array], None]
"""Called with what each operation computes: its place, a word for it, and the result."""


@dataclass(frozen=True)
class Place:
    """Where a value is computed: an update, or a section as a whole, in a stage if it has them."""

    section: str
    stage: int | None = None
    layer: int | None = None

    def __str__(self) -> str:
        if self.layer is None:
            return self.section if self.stage is None else f"{self.section}, stage {self.stage}"
        return f"{self.section}, stage {self.stage} layer {self.layer}"


@dataclass
class Meaning:
    """The results of a declaration in one pass.

    Attributes:
        values: the result of each place, in the order of execution: of an update, its version of
            the layer; of a block, its feature; of the classifier, the logits.
        reads: the features that each update reads, as text.
        running: the running statistics after the pass, by name.
        statistics: the names of those that each place updates.
        moves: how often each channel of a running statistic was moved, by its name.
        tensors: the names of all tensors that were read.
        used: those that each place read, in order.
        inputs: X0 of each block.
    """

    values: dict[Place, Array] = field(default_factory=dict)
    reads: dict[Place, str] = field(default_factory=dict)
    running: dict[str, Array] = field(default_factory=dict)
    statistics: dict[Place, list[str]] = field(default_factory=dict)
    moves: dict[str, Array] = field(default_factory=dict)
    tensors: set[str] = field(default_factory=set)
    used: dict[Place, list[str]] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)

    @property
    def logits(self) -> Array:
        """(batch, classes), with stages before them for readouts over time."""
        return self.values[Place("classifier")]

    @property
    def features(self) -> tuple[Array, ...]:
        """The feature of each block."""
        return tuple(
            value
            for place, value in self.values.items()
            if place.section.startswith("block") and place.layer is None
        )


class Execution:
    """One pass: the tensors, the random choices, and the results so far."""

    def __init__(
        self,
        tensors: Mapping[str, Array],
        arithmetic: Arithmetic,
        training: bool,
        masks: Masks | None,
        observe: Observe | None = None,
    ) -> None:
        self._observe = observe
        self.arithmetic = arithmetic
        self.place = Place("stem")
        self.column: Law = ()  # how the column is drawn that the network keeps in a batch
        self.meaning = Meaning()
        self._tensors, self._training = tensors, training
        self._masks = masks if training else None
        self._choices = 0  # random choices at this place
        self._batch: dict[int, tuple[Array, Array, Array, Array]] = {}
        self._branch_mask: Array | None = None  # 1 where the enclosing branch is executed, else 0

    def enter(self, place: Place) -> None:
        """Continue at another place."""
        self.place, self._choices = place, 0

    def write(self, value: Array) -> Array:
        """Record the result of the place."""
        self.meaning.values[self.place] = value
        return value

    def run(self, ops: Ops, x: Array, site: Site) -> Array:
        """Apply ops in order."""
        for op in ops:
            x = self._apply(op, x, site)
            if not isinstance(op, Norm | Conv):  # which observe themselves
                self.observed(type(op).__name__, x)
            if site.source is not None and any(isinstance(each, Conv) for each in walk((op,))):
                site = replace(site, parts={}, after_kernel=True)
        return x

    def _apply(self, op: Op, x: Array, site: Site) -> Array:
        match op:
            case Norm():
                return self.norm(x, f"{site.of_update}.{op.role}", site.parts.get(op.role))
            case GroupNorm():
                normalized = group_normalize(self.arithmetic, x, op.groups, EPS)
                return self._affine(normalized, f"{site.of_edge_update}.{op.role}")
            case LocalResponse():
                return local_response(self.arithmetic, x, op.size, op.alpha, op.beta)
            case Relu():
                return self.arithmetic.relu(x)
            case Bias():
                return self._bias(x, f"{site.of_edge}.{op.role}")
            case Gate():
                factor = self.arithmetic.sigmoid(self._tensor(f"{site.gate(op)}.weight", 1))
                return self.arithmetic.multiply(x, per_channel(factor))
            case MaxPool():
                return max_pool(self.arithmetic, x, op.kernel, op.stride, op.padding)
            case AvgPool():
                return average_pool(self.arithmetic, x, op.kernel, op.stride)
            case Upsample():
                return upsample(x, op.factor)
            case Dropout():
                return self.dropout(x, op.rate)
            case Conv():
                return self._conv(op, x, site)
            case Skip():
                return self._skip(op, x, site)

    def _skip(self, op: Skip, x: Array, site: Site) -> Array:
        mask, scale = None, Fraction(1)
        if op.drop is not None:
            alive = survival(op.drop.rate)
            if self._masks is not None:
                batch = x.shape[-4] if op.drop.per == "image" else 1
                law = ("branch", op.drop.rate, op.drop.per == "image")
                mask = self._mask(law, batch, 1, 1, 1)
            if self._training and op.drop.scale == "training":
                scale = 1 / alive
            elif not self._training and op.drop.scale == "evaluation":
                scale = alive
        # A branch that is dropped for a whole batch updates no running statistics.
        outer = self._branch_mask
        if op.drop is not None and op.drop.per == "batch":
            self._branch_mask = mask
        branch = self.run(op.branch, x, site)
        self._branch_mask = outer
        if mask is not None:
            branch = self.arithmetic.multiply(branch, mask)
        if scale != 1:
            branch = self.arithmetic.scale(branch, scale)
        if x.shape != branch.shape:
            if op.shortcut != "identity":
                x = self._shortcut(op, x, branch.shape[-3], site)
            self.require(x.shape == branch.shape, "a skip's shortcut and branch differ in size")
        return self.arithmetic.add(x, branch)

    def _shortcut(self, op: Skip, x: Array, filters: int, site: Site) -> Array:
        stride = prod(stride_of(each, site.stride) for each in walk(op.branch))
        if op.shortcut == "projection":
            name = f"{site.of_update}.shortcut"
            x = self.conv(x, f"{name}.conv", filters, 1, stride)
            return self.norm(x, f"{name}.norm")
        x = average_pool(self.arithmetic, x, stride, stride)
        zeros = np.zeros((*x.shape[:-3], filters - x.shape[-3], *x.shape[-2:]), x.dtype)
        return np.concatenate((x, zeros), axis=-3)

    def _conv(self, op: Conv, x: Array, site: Site) -> Array:
        name, stride = site.kernel(op), stride_of(op, site.stride)
        if op.depthwise:
            maps = self._conv_depthwise(x, name, op.kernel, stride)
        else:
            assert op.filters is not None  # noqa: S101  # only a depthwise one keeps its channels
            part = site.parts.get(op.role)
            maps = self.conv(x, name, op.filters, op.kernel, stride, part)
        return self._bias(maps, f"{name}.bias") if op.bias else maps

    # ---- operations on tensors ---------------------------------------------------------------

    def conv(
        self,
        x: Array,
        name: str,
        filters: int,
        size: int,
        stride: int = 1,
        part: Part | None = None,
    ) -> Array:
        """Convolve with a kernel, or with a part of its input channels."""
        start, stop, width = part or (0, x.shape[-3], x.shape[-3])
        kernel = self._tensor(f"{name}.weight", filters, width, size, size)
        kernel = kernel[..., start:stop, :, :]
        maps = convolve(self.arithmetic, x, kernel, stride, (size - 1) // 2)
        return self.observed("Conv", maps)

    def _conv_depthwise(self, x: Array, name: str, size: int, stride: int) -> Array:
        """Convolve each map with its own kernel."""
        kernel = self._tensor(f"{name}.weight", x.shape[-3], 1, size, size)
        maps = convolve_depthwise(self.arithmetic, x, kernel, stride, (size - 1) // 2)
        return self.observed("Conv", maps)

    def _bias(self, x: Array, name: str) -> Array:
        """Add one number for each channel."""
        return self.arithmetic.add(x, per_channel(self._tensor(name, x.shape[-3])))

    def _affine(self, x: Array, name: str) -> Array:
        """x × scale + bias, for each channel."""
        scale = self._tensor(f"{name}.scale", x.shape[-3])
        return self._bias(self.arithmetic.multiply(x, per_channel(scale)), f"{name}.bias")

    def linear(self, x: Array, name: str, features: int) -> Array:
        """A fully connected layer."""
        weight = self._tensor(f"{name}.weight", features, x.shape[-1])
        bias = self._tensor(f"{name}.bias", features)
        product = self.arithmetic.matmul(x, weight.swapaxes(-1, -2))
        return self.arithmetic.add(product, bias[..., None, :])

    def norm_relu(self, x: Array, name: str) -> Array:
        """Batch normalization and ReLU."""
        return self.observed("Relu", self.arithmetic.relu(self.norm(x, name)))

    def norm(self, x: Array, name: str, part: Part | None = None) -> Array:
        """(x - mean) / √(variance + ε) × scale + bias, with a part of the tensors if given."""
        arithmetic = self.arithmetic
        start, stop, width = part or (0, x.shape[-3], x.shape[-3])
        scale, bias, center, var = (
            self._tensor(f"{name}.{each}", width)[..., start:stop]
            for each in ("scale", "bias", "mean", "var")
        )
        if self._training:
            center, var, unbiased = self._moments(x)
            self._move(f"{name}.mean", start, stop, center)
            self._move(f"{name}.var", start, stop, unbiased)
        centered = arithmetic.subtract(x, per_channel(center))
        factor = arithmetic.divide_by_root(scale, arithmetic.offset(var, EPS))
        scaled = arithmetic.multiply(centered, per_channel(factor))
        return self.observed("Norm", arithmetic.add(scaled, per_channel(bias)))

    def _moments(self, x: Array) -> tuple[Array, Array, Array]:
        """Mean, biased and unbiased variance over a batch; computed once for each value."""
        if id(x) not in self._batch:
            arithmetic, pixels = self.arithmetic, (-4, -2, -1)
            count = x.shape[-4] * x.shape[-2] * x.shape[-1]
            center = mean(arithmetic, x, pixels)
            centered = arithmetic.subtract(x, per_channel(center))
            var = mean(arithmetic, arithmetic.multiply(centered, centered), pixels)
            unbiased = arithmetic.scale(var, Fraction(count, count - 1))
            self._batch[id(x)] = (
                x,
                center,
                var,
                unbiased,
            )  # keeps x alive, so that its id stays unique
        return self._batch[id(x)][1:]

    def _move(self, name: str, start: int, stop: int, observed: Array) -> None:
        """Move a part of a running statistic, if its branch is executed."""
        running = self.meaning.running.setdefault(name, self._tensors[name].copy())
        part = running[..., start:stop]
        moves = self.meaning.moves.setdefault(name, np.zeros_like(running))[..., start:stop]
        moved = move(self.arithmetic, part, observed, MOMENTUM)
        if self._branch_mask is None:
            moves[...] = self.arithmetic.offset(moves, 1)
        else:
            change = self.arithmetic.subtract(moved, part)
            mask = self._branch_mask[..., 0, 0, 0]
            moved = self.arithmetic.add(part, self.arithmetic.multiply(change, mask))
            moves[...] = self.arithmetic.add(moves, mask)
        part[...] = moved
        names = self.meaning.statistics.setdefault(self.place, [])
        if name not in names:
            names.append(name)

    def dropout(self, x: Array, rate: float) -> Array:
        """Apply dropout, if masks are given."""
        if not rate or self._masks is None:
            return x
        x = self.arithmetic.multiply(x, self._mask(("element", rate), *x.shape[-4:]))
        return self.arithmetic.scale(x, 1 / survival(rate))

    def combine(self, terms: Sequence[Array], average: bool, drop: JoinDrop | None = None) -> Array:
        """The sum of maps in their order, or their mean; of those that ``drop`` keeps."""
        if drop is not None and self._masks is not None and len(terms) > 1:
            columns, column = (drop.columns, self.column) if drop.global_ else ((), ())
            weights = self._mask(("join", drop.local, columns, column), len(terms))
            terms = [
                self.arithmetic.multiply(term, weights[..., i, None, None, None, None])
                for i, term in enumerate(terms)
            ]
            average = False
        value, *others = terms
        for term in others:
            self.require(term.shape == value.shape, "combines maps of different shapes")
            value = self.arithmetic.add(value, term)
        value = self.arithmetic.divide(value, len(terms)) if average else value
        return self.observed("Sum", value) if others else value

    def _mask(self, law: Law, *shape: int) -> Array:
        assert self._masks is not None  # noqa: S101  # callers check
        self._choices += 1
        return self._masks(self.place, self._choices - 1, shape, law)

    def _tensor(self, name: str, *shape: int) -> Array:
        if name not in self._tensors:
            raise VerificationError(f"{self.place}: there is no {name}, which is declared")
        tensor = self._tensors[name]
        actual = tensor.shape[self.arithmetic.lead :]
        self.require(actual == shape, f"{name} has the shape {actual}, declared is {shape}")
        self.meaning.tensors.add(name)
        names = self.meaning.used.setdefault(self.place, [])
        if name not in names:
            names.append(name)
        return tensor

    def observed(self, word: str, value: Array) -> Array:
        """Show what an operation computes to whoever observes."""
        if self._observe is not None:
            self._observe(self.place, word, value)
        return value

    def require(self, holds: bool, message: str) -> None:
        """Raise a ``VerificationError`` at this place unless a condition holds."""
        if not holds:
            raise VerificationError(f"{self.place}: {message}")
