"""The input of a backend: a network as classes, functions, members and statements.

The core (``emit/outline.py``) decides which members a class has, their names and order, which
updates share a class, and how a bank is sliced. A backend prints each of these in its framework's
terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from cliquegraph.emit.dims import Dim, bounds
from cliquegraph.emit.things import Child, Member, MemberGroup, Thing
from cliquegraph.ir.nodes import Origin
from cliquegraph.ir.ops import AvgPool, BatchNorm, Conv, Op, Relu

AnyOp = TypeVar("AnyOp", bound=Op)

VERSIONS = "versions"
"""The argument of a block that records each version of each layer."""

# ---- expressions -------------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """A local variable or an argument."""

    name: str


@dataclass(frozen=True)
class Own:
    """A member of ``self``."""

    name: str


@dataclass(frozen=True)
class BankSlice:
    """Input channels [start:stop] of a member's bank; None at an end of the bank."""

    name: str
    start: Dim | None
    stop: Dim | None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the bank."""
        return self.start is None and self.stop is None

    @property
    def bounds(self) -> str:
        """``start:stop``, as printed in a subscript."""
        return bounds(self.start, self.stop)


@dataclass(frozen=True)
class Sources:
    """Several values, such as the bottom layers of an update, as a list."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Spread:
    """The items of a list, unpacked within another."""

    of: Local


@dataclass(frozen=True)
class Append:
    """A value, appended to a list."""

    to: Local
    value: Expression


@dataclass(frozen=True)
class Several:
    """Several values for as many targets."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Apply:
    """One operation.

    ``members`` have its tensors: a member that is called, or an array of ``Bias`` or ``Gate``. If
    the operation is ``banked``, they are arguments of the class's call: arrays, or the member of a
    ``BatchNorm`` or ``GroupNorm``. ``argument`` is the constructor's argument for a convolution's
    stride, or for the channels of a padding or of zeros, if the sections that share the class
    differ in it. ``recomputed``: the backward pass recomputes the input, so the operation must not
    save it.
    """

    op: Op
    arguments: tuple[Expression, ...]
    members: tuple[Expression, ...]
    banked: bool = False
    argument: str | None = None
    recomputed: bool = False

    def reads_only(self, op: type[Op]) -> bool:
        """Whether its argument, nested in it, is an operation of this type on one value.

        The normalization of a branch that is dropped has two: maps, and whether it is kept.
        """
        match self.arguments:
            case (Apply(inner, (_,)),):
                return isinstance(inner, op)
        return False


@dataclass(frozen=True)
class MapsOf:
    """The maps of a feature, or of each in a list of features."""

    of: Local
    is_list: bool = False


@dataclass(frozen=True)
class Feature:
    """Maps with their moments."""

    maps: Local
    moments: Expression


@dataclass(frozen=True)
class NewSlab:
    """An empty buffer for features in adjacent columns."""

    channels: Dim


@dataclass(frozen=True)
class Put:
    """A feature, moved into a slab: from a column on, or behind what was moved last."""

    slab: Local
    feature: Expression
    start: Dim | None = None


@dataclass(frozen=True)
class Unit:
    """Concatenation, normalization, ReLU and the convolution that reads it, as one call.

    With ``recompute``, nothing between ``sources`` and the result is saved for backward: the
    backward pass recomputes it.

    Attributes:
        sources: the list to concatenate: features if ``given``, else maps.
        norm: the member with scale and bias; None without normalization and ReLU.
        given: whether the maps are normalized by the moments of the features.
        conv: the convolution; None if something else reads the maps.
        kernel: the convolution's member or kernel, ``banked`` as in ``Apply``.
        pool: the average pool that reads them, without padding.
    """

    sources: Expression
    norm: Expression | None
    given: bool
    conv: Conv | None
    kernel: Expression | None
    banked: bool
    recompute: bool
    pool: AvgPool | None = None

    @property
    def function(self) -> str:
        """The name of the helper."""
        if self.norm is None:
            return "concat_conv"
        return "norm_relu" if self.given else "batch_norm_relu"


@dataclass(frozen=True)
class CallChild:
    """A call of a member that is an instance of another class of the file.

    Kernels that stages share are passed by keyword.
    """

    name: str
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...] = ()


@dataclass(frozen=True)
class VersionsOf:
    """The record of a block's versions, an argument of its call; nothing unless it is asked for."""

    block: str


Expression = (
    Local
    | Own
    | BankSlice
    | Sources
    | Spread
    | Append
    | Several
    | MapsOf
    | Feature
    | NewSlab
    | Put
    | Apply
    | Unit
    | CallChild
    | VersionsOf
)


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all its parts."""
    yield expression
    match expression:
        case Sources(items) | Several(items):
            for item in items:
                yield from walk(item)
        case MapsOf(of) | Spread(of):
            yield of
        case Append(to, value):
            yield to
            yield from walk(value)
        case Feature(maps, moments):
            yield maps
            yield from walk(moments)
        case Put(slab, feature):
            yield slab
            yield from walk(feature)
        case CallChild(_, arguments, keywords):
            for part in (*arguments, *(value for _, value in keywords)):
                yield from walk(part)
        case Apply():
            for part in (*expression.arguments, *expression.members):
                yield from walk(part)
        case Unit():
            for each in (expression.sources, expression.norm, expression.kernel):
                if each is not None:
                    yield from walk(each)


@dataclass(frozen=True)
class Statement:
    """An assignment.

    Attributes:
        comment: printed above it, or after it on the same line with ``beside``.
        declares: its single target is a new variable.
        origins: the updates and sections that it is generated from, all of them in a shared class.
    """

    targets: tuple[str, ...]
    value: Expression
    comment: str | None = None
    declares: bool = False
    beside: bool = False
    origins: tuple[Origin, ...] = field(default=(), compare=False)


class Kind(StrEnum):
    """The kind of a variable."""

    TENSOR = "tensor"
    FEATURE = "feature"  # maps with their moments
    MAPS = "maps"  # a list of maps
    FEATURES = "features"  # a list of features
    KERNEL = "kernel"  # an array that stages share: a kernel, a bias, a gate
    LAYER = "layer"  # such as a normalization that stages share
    VERSIONS = "versions"  # a record of a block's versions, or nothing


@dataclass(frozen=True)
class Variable:
    """An input or a result of a class's call."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Record:
    """What a block records of its versions if it is asked to.

    Attributes:
        items: each version by its name in the block, ``X2@1``.
        growing: instead of values, a list of X0 and X1 … Xn.
    """

    items: tuple[tuple[str, Expression], ...]
    growing: Variable | None = None


@dataclass(frozen=True)
class Body:
    """Statements, what is recorded after them, and the variables that are returned."""

    statements: tuple[Statement, ...]
    returned: tuple[Variable, ...]
    record: Record | None = None

    @property
    def returns(self) -> tuple[str, ...]:
        """The names of the variables that are returned."""
        return tuple(variable.name for variable in self.returned)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of the variables that are returned."""
        return tuple(variable.kind for variable in self.returned)

    @property
    def reads(self) -> frozenset[str]:
        """The variables that the statements read."""
        return frozenset(
            part.name
            for statement in self.statements
            for part in walk(statement.value)
            if isinstance(part, Local)
        ).union(
            part.name
            for _, value in (self.record.items if self.record else ())
            for part in walk(value)
            if isinstance(part, Local)
        )


# ---- definitions -------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassView:
    """A class for one part of the network, or for several that differ only in widths and strides.

    Attributes:
        widths: the constructor's arguments.
        strides: further arguments, 1 by default.
        kept: the widths that its call reads, stored as attributes.
        inputs: the arguments of the call.
    """

    name: str
    doc: str
    widths: tuple[str, ...]
    strides: tuple[str, ...]
    kept: tuple[str, ...]
    groups: tuple[MemberGroup, ...]
    inputs: tuple[Variable, ...]
    body: Body


@dataclass(frozen=True)
class ModelView:
    """A whole file.

    Attributes:
        header: lines for the top of the file: its origin.
        class_name: the network's class; the only public name.
        doc: a sentence that describes the network.
        references: the papers that describe it.
        classes_default: the default of the constructor's ``num_classes``.
        input_shape: channels, height, width of an image.
        classes: each before the first that uses it.
        groups: members of the network; the classifier's outputs are ``num_classes``.
        input_name: the name of the argument of ``forward_features``.
        gather: from images to lists of the maps in the block features; None if ``features`` does
            this itself.
        features: from images, or from the results of ``gather``, to the block features.
        logits: from the results of ``gather``, or else of ``features``, to logits.
        alike: by the names of blocks, those of the updates that compute the same as another one of
            the block, on inputs of the same widths: compiled separately, they are one program.
        stages: of a readout over time, how many there are; 0: the logits are of one.
    """

    header: tuple[str, ...]
    class_name: str
    doc: str
    references: tuple[str, ...]
    classes_default: int
    input_shape: tuple[int, int, int]
    classes: tuple[ClassView, ...]
    groups: tuple[MemberGroup, ...]
    input_name: str
    gather: Body | None
    features: Body
    logits: Body
    alike: Mapping[str, tuple[str, ...]]
    stages: int = 0

    @property
    def ops(self) -> frozenset[type[Op]]:
        """The types of operations that occur, for the same purpose as ``things``."""
        return frozenset(type(part.op) for part in self._parts() if isinstance(part, Apply))

    @property
    def functions(self) -> frozenset[str]:
        """The helpers that units call."""
        return frozenset(part.function for part in self._parts() if isinstance(part, Unit))

    @property
    def recomputes_before_pool(self) -> bool:
        """Whether an average pool reads maps that the backward pass recomputes."""
        return any(
            isinstance(part, Apply) and isinstance(part.op, AvgPool) and part.recomputed
            for part in self._parts()
        )

    @property
    def rectifies_norms(self) -> bool:
        """Whether a ReLU reads what a batch normalization returns, and nothing else does."""
        return any(
            isinstance(part, Apply) and isinstance(part.op, Relu) and part.reads_only(BatchNorm)
            for part in self._parts()
        )

    @property
    def reads_kernels(self) -> bool:
        """Whether a unit reads the kernel of a convolution that is not called."""
        units = (part for part in self._parts() if isinstance(part, Unit))
        return any(unit.kernel is not None and not unit.banked for unit in units)

    def applied(self, op: type[AnyOp]) -> frozenset[AnyOp]:
        """Return the operations of one type, including the convolutions of units."""
        parts = [part.op for part in self._parts() if isinstance(part, Apply)]
        parts += [part.conv for part in self._parts() if isinstance(part, Unit) and part.conv]
        return frozenset(part for part in parts if isinstance(part, op))

    def _parts(self) -> Iterator[Expression]:
        bodies = [*(each.body for each in self.classes), self.gather, self.features, self.logits]
        for body in filter(None, bodies):
            for statement in body.statements:
                yield from walk(statement.value)

    @property
    def things(self) -> frozenset[type[Thing]]:
        """The types of members that occur, so that a backend prints only the helpers in use."""
        return frozenset(type(member.thing) for member in self.members)

    @property
    def children(self) -> dict[str, str]:
        """Members of the network that are instances of the file's classes, with their classes."""
        return {
            member.name: member.thing.class_name
            for group in self.groups
            for member in group.members
            if isinstance(member.thing, Child)
        }

    @property
    def members(self) -> Iterator[Member]:
        """The members of the network and of every class."""
        for group in (*self.groups, *(group for view in self.classes for group in view.groups)):
            yield from group.members
