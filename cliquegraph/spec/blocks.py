"""The blocks of a spec: a discriminated union of the kinds that are installed."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from cliquegraph.plugins.kinds import kinds
from cliquegraph.spec.schema import BlockSpec


class _Installed:
    """Makes the union when the first network is read, not when this is imported.

    A package with a kind imports this one, so it can't be loaded from here before.
    """

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(block_union())


def block_union() -> Any:
    """Return the type of a block: the classes of all kinds, told apart by ``kind``."""
    classes: list[Any] = [kind.spec for kind in kinds().values()]
    return Annotated[reduce(or_, classes), Field(discriminator="kind")]


AnyBlock = Annotated[BlockSpec, _Installed]
"""A block of any kind, for the fields of models that put off being built (``defer_build``)."""
