"""What a backend is given: a network as classes, functions, members and statements.

Which members a class has, what they are called, which steps share a class, how a bank is
sliced and in which order all of it stands is decided in the core (``emit/outline.py``). A
backend spells each of these once, in its framework's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from cliquegraph.emit.dims import Dim, bounds
from cliquegraph.emit.things import Child, Member, MemberGroup, Thing
from cliquegraph.ir.nodes import Origin
from cliquegraph.ir.ops import Conv, Op

AnyOp = TypeVar("AnyOp", bound=Op)

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
    """Input channels [start:stop] of a member's bank; None at an end that is the bank's own."""

    name: str
    start: Dim | None
    stop: Dim | None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the bank."""
        return self.start is None and self.stop is None

    @property
    def bounds(self) -> str:
        """``start:stop``, as it stands in a subscript."""
        return bounds(self.start, self.stop)


@dataclass(frozen=True)
class Sources:
    """Several values, such as the bottom layers of an update, as a list."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Spread:
    """The items of a list, within another."""

    of: Local


@dataclass(frozen=True)
class Append:
    """A value, put at the end of a list."""

    to: Local
    value: Expression


@dataclass(frozen=True)
class Several:
    """Several values for as many targets."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Apply:
    """One operation.

    ``members`` are what holds its tensors: a member that is called, or, where the operation is
    ``banked``, a kernel. ``argument`` is the constructor's argument that a convolution's stride, or
    the channels of a padding, are where the sections that share the class differ in it.
    """

    op: Op
    arguments: tuple[Expression, ...]
    members: tuple[Expression, ...]
    banked: bool = False
    argument: str | None = None


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
class Unit:
    """Concatenation, normalization, ReLU and the convolution that reads it, as one call.

    What a backend writes as one can be done again as one: where ``recompute`` says so, the
    backward pass does, and nothing between ``sources`` and the result is kept.

    Attributes:
        sources: what is concatenated, as a list: features where their moments are given, else
            maps.
        norm: the member with scale and bias; None without normalization and ReLU.
        given: whether the maps are normalized by the moments of the features.
        conv: the convolution; None where something else reads the maps.
        kernel: the convolution's member or kernel, ``banked`` as in ``Apply``.
    """

    sources: Expression
    norm: Expression | None
    given: bool
    conv: Conv | None
    kernel: Expression | None
    banked: bool
    recompute: bool

    @property
    def function(self) -> str:
        """What the helper is called."""
        if self.norm is None:
            return "concat_conv"
        return "norm_relu" if self.given else "batch_norm_relu"


@dataclass(frozen=True)
class CallChild:
    """A call of a member that is an instance of another class of the file.

    Kernels that stages share are handed over by keyword.
    """

    name: str
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...] = ()


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
    | Apply
    | Unit
    | CallChild
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
        comment: what it does, above it or, where it is short, ``beside`` it.
        declares: its single target is a new variable.
        origins: the updates and sections that it is generated from; a class that several share
            has all of theirs.
    """

    targets: tuple[str, ...]
    value: Expression
    comment: str | None = None
    declares: bool = False
    beside: bool = False
    origins: tuple[Origin, ...] = field(default=(), compare=False)


class Kind(StrEnum):
    """What a variable is."""

    TENSOR = "tensor"
    FEATURE = "feature"  # maps with their moments
    MAPS = "maps"  # a list of maps
    FEATURES = "features"  # a list of features
    KERNEL = "kernel"


@dataclass(frozen=True)
class Variable:
    """An input of a class, or what its call returns."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Body:
    """Statements, and the variables that are returned."""

    statements: tuple[Statement, ...]
    returned: tuple[Variable, ...]

    @property
    def returns(self) -> tuple[str, ...]:
        """The names of the variables that are returned."""
        return tuple(variable.name for variable in self.returned)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each returned variable is."""
        return tuple(variable.kind for variable in self.returned)

    @property
    def reads(self) -> frozenset[str]:
        """The variables that the statements read."""
        return frozenset(
            part.name
            for statement in self.statements
            for part in walk(statement.value)
            if isinstance(part, Local)
        )


# ---- definitions -------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassView:
    """A class for one part of the network, or for several that differ in widths and strides alone.

    Attributes:
        widths: the constructor's arguments.
        strides: further ones, 1 by default.
        kept: the widths that its call reads, as attributes.
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
        header: lines for the top of the file: where it comes from.
        class_name: the network's class; the only public name.
        doc: what the network is.
        references: the papers that describe it.
        classes_default: the default of the constructor's ``num_classes``.
        input_shape: channels, height, width of an image.
        classes: each before the first that uses it.
        groups: members of the network; the classifier's outputs are ``num_classes``.
        input_name: what ``forward_features`` calls its argument.
        gather: from images to lists of the maps that the block features are made of; None
            where ``features`` makes them itself.
        features: from images, or from what ``gather`` returns, to the block features.
        logits: from what ``gather`` returns, or else ``features``, to logits.
        alike: by the names of blocks, those of the steps that do the same as another step of the
            block, on inputs of the same widths: compiled by themselves, they are one program.
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

    @property
    def ops(self) -> frozenset[type[Op]]:
        """Which operations occur, for the same purpose as ``things``."""
        return frozenset(type(part.op) for part in self._parts() if isinstance(part, Apply))

    @property
    def functions(self) -> frozenset[str]:
        """Which helpers the units call."""
        return frozenset(part.function for part in self._parts() if isinstance(part, Unit))

    def applied(self, op: type[AnyOp]) -> frozenset[AnyOp]:
        """Return the operations of one kind, and what units convolve."""
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
        """Which kinds of member occur, so that a backend writes only the helpers in use."""
        return frozenset(type(member.thing) for member in self.members)

    @property
    def children(self) -> dict[str, str]:
        """The members of the network that are instances of the file's classes, and of which."""
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
