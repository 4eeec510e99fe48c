"""The protocol of a kind of block, and its discovery.

A kind is a ``Kind`` in the entry point group ``cliquegraph.blocks``, under its name. The compiler
knows none by name: ours, the files of ``blocks/``, are discovered like those of other packages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import isabstract
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, get_args

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:  # these modules import this one
    from cliquegraph.blocks.model import Block
    from cliquegraph.spec.schema import BlockSpec

GROUP = "cliquegraph.blocks"

Keys = TypeVar("Keys", bound="BlockSpec")

Document = dict[str, Any]
"""A spec or a section of it as plain data, as a person would write it."""


class Random(Protocol):
    """Random choices as plain Python values, for random specs."""

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, inclusive."""

    def one(self, options: Sequence[Any]) -> Any:
        """Return one of several options."""

    def holds(self, chance: float) -> bool:
        """Return True with this probability."""

    def order(self, n: int) -> list[int]:
        """Return a permutation of 1 to n."""

    def some(self, chance: float = 0.4, /, **keys: Any) -> Document:
        """Return each key with this probability; omitted keys have their defaults."""


def _none(_: Document) -> Iterator[Document]:
    return iter(())


@dataclass(frozen=True)
class Fuzzing:
    """How to draw random blocks of a kind, and how to shrink one that fails.

    Attributes:
        draw: returns a small random block, with its ``kind`` unless that is the default.
        smaller: yields smaller blocks that need changes to several keys at once, such as one
            layer fewer and an order without it; removing a single key and lowering a single
            number are always tried.
        schedule: keys that are consistent only with each other, so that blocks share all or none.
        counted: integer keys whose defaults count as if written, so that an explicit 1 is smaller
            than an omitted 2.
        weight: how often it is drawn, relative to the weights of the other kinds.
    """

    draw: Callable[[Random], Document]
    smaller: Callable[[Document], Iterator[Document]] = _none
    schedule: tuple[str, ...] = ("layers",)
    counted: tuple[str, ...] = ()
    weight: int = 1


@dataclass(frozen=True)
class Kind(Generic[Keys]):
    """A kind of block.

    Attributes:
        spec: the model of its keys. The field ``kind`` is the ``Literal`` of the kind's name; if
            it has a default, this is the kind of blocks that name none.
        block: returns the block that the keys declare.
        fuzzing: how random networks use it; None: they don't.
    """

    spec: type[Keys]
    block: Callable[[Keys], Block]
    fuzzing: Fuzzing | None = None

    def __post_init__(self) -> None:
        if len(get_args(self.spec.model_fields["kind"].annotation)) != 1:
            raise TypeError(f"{self.spec.__name__}.kind must be the Literal of one name")
        if isabstract(self.spec):
            raise TypeError(f"{self.spec.__name__} does not define the property reads")

    @property
    def name(self) -> str:
        """Its name in specs."""
        (name,) = get_args(self.spec.model_fields["kind"].annotation)
        return str(name)

    @property
    def is_default(self) -> bool:
        """Whether this is the kind of blocks that name none."""
        return not self.spec.model_fields["kind"].is_required()


@cache
def kinds() -> Mapping[str, Kind[Any]]:
    """Return every installed kind, by name.

    Raises:
        UsageError: the package of a kind fails to load, or its entry point is not a ``Kind``.
    """
    by_name: dict[str, Kind[Any]] = {}
    for point in entry_points_of(GROUP):
        where = f"block kind {point.name!r} ({point.value})"
        try:
            kind = point.load()
        except (ImportError, AttributeError, TypeError) as error:
            raise UsageError(f"{where} fails to load: {error}") from error
        if not isinstance(kind, Kind):
            raise UsageError(f"{where} is not a cliquegraph.plugins.kinds.Kind")
        if kind.name != point.name:
            raise UsageError(f"{where} is named {kind.name!r}")
        by_name[point.name] = kind
    if len(default := [kind.name for kind in by_name.values() if kind.is_default]) != 1:
        named = ", ".join(default) or "none"
        raise UsageError(f"exactly one block kind must be the default; these are: {named}")
    return by_name


def default_kind() -> str:
    """Return the kind of blocks that name none."""
    return next(kind.name for kind in kinds().values() if kind.is_default)
