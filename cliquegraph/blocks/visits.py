"""When layers are visited: the keys ``stages``, ``order`` and ``last_stage_updates``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Tag
from pydantic_core import PydanticCustomError

from cliquegraph.blocks.keys import list_or_one, tuple_of
from cliquegraph.spec.schema import impossible

Order = Annotated[
    Annotated[Literal["ascending", "descending"], Tag("<one>")]
    | Annotated[tuple[int, ...], Tag("<list>")],
    Discriminator(list_or_one),
    BeforeValidator(tuple_of),
]


@dataclass(frozen=True)
class Visits:
    """The visits of a block's layers.

    Attributes:
        n: the number of layers.
        stages: how many times they are visited.
        order: as a spec writes it.
        last: how many layers the last stage visits; None: all.
    """

    n: int
    stages: int
    order: Order = "ascending"
    last: int | None = None

    @property
    def sequence(self) -> tuple[int, ...]:
        """The layers in the order of their visits."""
        if isinstance(self.order, tuple):
            return self.order
        ascending = tuple(range(1, self.n + 1))
        return ascending if self.order == "ascending" else ascending[::-1]

    @property
    def updates(self) -> tuple[int, ...]:
        """How many layers each stage visits."""
        last = self.n if self.last is None else self.last
        return (*(self.n,) * (self.stages - 1), last)

    def faults(self) -> Iterator[PydanticCustomError]:
        """Yield what can't be, each at its key."""
        n = self.n
        if sorted(self.sequence) != list(range(1, n + 1)):
            yield impossible(f"must name each of the layers 1 to {n} once", "order")
        if self.last is not None and self.last > n:
            yield impossible(f"must be between 0 and layers, {n}", "last_stage_updates")
        if self.last is not None and self.last < n and self.stages == 1:
            yield impossible(
                f"must be {n} in a block of one stage: stage 1 initializes every layer",
                "last_stage_updates",
            )

    @property
    def words(self) -> str:
        """What a title says of the order, from a comma on; nothing where it is ascending."""
        return "" if self.order == "ascending" else f", visited as {list(self.sequence)}"
