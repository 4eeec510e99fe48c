"""Lazy imports of the drawing libraries."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from cliquegraph.diagnostics.errors import UsageError


def has(package: str) -> bool:
    """Return whether a library is installed."""
    return find_spec(package) is not None


def need(package: str) -> ModuleType:
    """Import a library.

    Raises:
        UsageError: it is not installed.
    """
    if not has(package):
        raise UsageError(f"pictures need {package}: pip install {package}")
    return import_module(package)
