"""What a command did."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]

Hide = Callable[..., None]
"""Makes packages look as if they were not installed."""
