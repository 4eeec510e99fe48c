"""What a backend is given: a network as classes, functions, members and statements.

Which members a class has, what they are called, which steps share a class, how a bank is
sliced and in which order all of it stands is decided in the core (``emit/outline.py``). A
backend spells each of these once, in its framework's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cliquegraph.ir.ops import Op

Dim = int | str
"""A width: a number, or a constructor argument where the instances of a class differ in it."""


# ---- members -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Norm:
    """A batch normalisation of so many channels."""

    channels: Dim
    eps: float
    momentum: float


@dataclass(frozen=True)
class Kernel:
    """A convolution with a kernel of its own."""

    channels: Dim
    filters: Dim
    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class SharedKernel:
    """A kernel that the stages of a block share; steps are handed it."""

    channels: int
    filters: int
    size: int


@dataclass(frozen=True)
class KernelBank:
    """Such kernels of one layer, one for each source, side by side along their input channels."""

    filters: int
    sources: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with bias."""

    inputs: Dim
    outputs: Dim


@dataclass(frozen=True)
class Drop:
    """Dropout."""

    rate: float


@dataclass(frozen=True)
class Child:
    """An instance of another class of the file, with its constructor's arguments."""

    class_name: str
    arguments: tuple[tuple[str, int], ...]


Thing = Norm | Kernel | SharedKernel | KernelBank | Dense | Drop | Child


@dataclass(frozen=True)
class Member:
    """What a class holds under a name."""

    name: str
    thing: Thing


@dataclass(frozen=True)
class MemberGroup:
    """Members that belong together, under a comment if there is something to say."""

    comment: str | None
    members: tuple[Member, ...]


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
    start: int | None
    stop: int | None


@dataclass(frozen=True)
class Sources:
    """The bottom layers of an update, as a list."""

    items: tuple[Local, ...]


@dataclass(frozen=True)
class Apply:
    """One operation.

    ``members`` are what holds its tensors: a member that is called, or, where the operation is
    ``banked``, a kernel.
    """

    op: Op
    arguments: tuple[Expression, ...]
    members: tuple[Expression, ...]
    banked: bool = False


@dataclass(frozen=True)
class CallChild:
    """A call of a member that is an instance of another class of the file.

    Kernels that stages share are handed over by keyword.
    """

    name: str
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...] = ()


Expression = Local | Own | BankSlice | Sources | Apply | CallChild


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all its parts."""
    yield expression
    match expression:
        case Sources(items):
            yield from items
        case CallChild(_, arguments, keywords):
            for part in (*arguments, *(value for _, value in keywords)):
                yield from walk(part)
        case Apply():
            for part in (*expression.arguments, *expression.members):
                yield from walk(part)


@dataclass(frozen=True)
class Statement:
    """An assignment. ``declares`` where its single target is a new variable."""

    targets: tuple[str, ...]
    value: Expression
    comment: str | None = None
    declares: bool = False


@dataclass(frozen=True)
class Body:
    """Statements, and the variables that are returned."""

    statements: tuple[Statement, ...]
    returns: tuple[str, ...]

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


class Kind(StrEnum):
    """What an input of a class is."""

    MAPS = "maps"  # a list of feature maps
    TENSOR = "tensor"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Parameter:
    """An input of a class."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class ClassView:
    """A class for one part of the network, or for several that differ in widths alone.

    ``widths`` are the constructor's arguments, ``inputs`` those of the call.
    """

    name: str
    doc: str
    widths: tuple[str, ...]
    groups: tuple[MemberGroup, ...]
    inputs: tuple[Parameter, ...]
    body: Body


@dataclass(frozen=True)
class ModelView:
    """A whole file.

    Attributes:
        header: lines for the top of the file: where it comes from.
        class_name: the network's class; the only public name.
        doc: what the network is.
        classes_default: the default of the constructor's ``num_classes``.
        input_shape: channels, height, width of an image.
        classes: each before the first that uses it.
        groups: members of the network; the classifier's outputs are ``num_classes``.
        input_name: what ``forward_features`` calls its argument.
        features: from images to the block features.
        logits: from the block features, in variables of the same names, to logits.
    """

    header: tuple[str, ...]
    class_name: str
    doc: str
    classes_default: int
    input_shape: tuple[int, int, int]
    classes: tuple[ClassView, ...]
    groups: tuple[MemberGroup, ...]
    input_name: str
    features: Body
    logits: Body

    @property
    def ops(self) -> frozenset[type[Op]]:
        """Which operations occur, for the same purpose as ``things``."""
        bodies = [*(each.body for each in self.classes), self.features, self.logits]
        return frozenset(
            type(part.op)
            for body in bodies
            for statement in body.statements
            for part in walk(statement.value)
            if isinstance(part, Apply)
        )

    @property
    def things(self) -> frozenset[type[Thing]]:
        """Which kinds of member occur, so that a backend writes only the helpers in use."""
        groups = [*self.groups, *(group for view in self.classes for group in view.groups)]
        return frozenset(type(member.thing) for group in groups for member in group.members)
