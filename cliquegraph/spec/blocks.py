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
    """Builds the union when the first network is read, not when this module is imported.

    Packages with block kinds import this one, so importing them here would be circular.
    """

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(block_union())


def block_union() -> Any:
    """Return the type of a block: the classes of all kinds, discriminated by ``kind``."""
    classes: list[Any] = [kind.spec for kind in kinds().values()]
    return Annotated[reduce(or_, classes), Field(discriminator="kind")]


AnyBlock = Annotated[BlockSpec, _Installed]
"""A block of any kind, for fields of models with ``defer_build``."""
