"""What a kind of block is, and how it is found.

A kind is a ``Kind`` behind the entry point group ``cliquegraph.blocks``, under its name. The
compiler knows none by name: ours, the files of ``blocks/``, are found as somebody else's would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, get_args

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.discovery import entry_points_of

if TYPE_CHECKING:  # what a kind is made of is of rooms that find kinds here
    from cliquegraph.blocks.model import Block
    from cliquegraph.spec.schema import BlockSpec

GROUP = "cliquegraph.blocks"

Keys = TypeVar("Keys", bound="BlockSpec")

Document = dict[str, Any]
"""A spec, or a section of it, as a person would write it, as plain data."""


class Random(Protocol):
    """Choices as plain Python values, for random specs."""

    def integer(self, low: int, high: int) -> int:
        """One of low to high, both included."""

    def one(self, options: Sequence[Any]) -> Any:
        """One of several."""

    def holds(self, chance: float) -> bool:
        """Whether something that has this chance comes to pass."""

    def order(self, n: int) -> list[int]:
        """A permutation of 1 to n."""

    def some(self, chance: float = 0.4, /, **keys: Any) -> Document:
        """Each key with a chance: what is left out has its default."""


def _none(_: Document) -> Iterator[Document]:
    return iter(())


@dataclass(frozen=True)
class Fuzzing:
    """How random networks use a kind, and how one that fails is made smaller.

    Attributes:
        draw: returns a small random block, with its ``kind`` unless that is the default.
        smaller: yields smaller blocks that take several keys at once, such as one layer less and
            an order without it; to leave a key out, or lower one number, is tried anyway.
        schedule: the keys that fit each other alone, so that blocks share all of them or none.
        counted: whole numbers whose defaults count as if written, so that 1 is less than 2 left
            out.
        weight: how often it is drawn, beside the weights of the other kinds.
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
        spec: its keys. Its ``kind`` is the ``Literal`` of the kind's name; where that has a
            default too, a block that names no kind is of this one.
        block: returns the block that its keys declare.
        fuzzing: how random networks use it; None: not at all.
    """

    spec: type[Keys]
    block: Callable[[Keys], Block]
    fuzzing: Fuzzing | None = None

    def __post_init__(self) -> None:
        if len(get_args(self.spec.model_fields["kind"].annotation)) != 1:
            raise TypeError(f"{self.spec.__name__}.kind must be the Literal of one name")

    @property
    def name(self) -> str:
        """What a spec calls it."""
        (name,) = get_args(self.spec.model_fields["kind"].annotation)
        return str(name)

    @property
    def is_default(self) -> bool:
        """Whether a block that names no kind is of this one."""
        return not self.spec.model_fields["kind"].is_required()


@cache
def kinds() -> Mapping[str, Kind[Any]]:
    """Return every installed kind, by name.

    Raises:
        UsageError: the package of one fails to load, or offers something else.
    """
    found: dict[str, Kind[Any]] = {}
    for point in entry_points_of(GROUP):
        where = f"block kind {point.name!r} ({point.value})"
        try:
            kind = point.load()
        except (ImportError, AttributeError, TypeError) as error:
            raise UsageError(f"{where} fails to load: {error}") from error
        if not isinstance(kind, Kind):
            raise UsageError(f"{where} is no cliquegraph.plugins.kinds.Kind")
        if kind.name != point.name:
            raise UsageError(f"{where} calls itself {kind.name!r}")
        found[point.name] = kind
    if len(default := [kind.name for kind in found.values() if kind.is_default]) != 1:
        named = ", ".join(default) or "none"
        raise UsageError(f"one block kind has a default for its key kind; these have: {named}")
    return found


def default_kind() -> str:
    """Return the kind of a block that names none."""
    return next(kind.name for kind in kinds().values() if kind.is_default)
