"""Lazy imports of the drawing libraries."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from cliquegraph.diagnostics.errors import UsageError


def need(package: str) -> ModuleType:
    """Import a library.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec(package) is None:
        raise UsageError(f"pictures need {package}: pip install {package}")
    return import_module(package)
