"""Packages that are not installed, and how to install them.

cliquegraph itself is not on PyPI yet, so messages name what is missing and not an extra of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cliquegraph.diagnostics.errors import BackendError


def how_to_install(packages: Mapping[str, str]) -> str | None:
    """Return the command that installs what is missing, or None if nothing is.

    Args:
        packages: names on PyPI by module.
    """
    missing = [package for module, package in packages.items() if not _is_installed(module)]
    return f"pip install {' '.join(missing)}" if missing else None


def load_part(module: str, purpose: str, packages: Mapping[str, str]) -> Any:
    """Import a module of a backend that needs more packages than the backend itself.

    Args:
        module: the module.
        purpose: what needs the packages, for the message.
        packages: their names on PyPI by module.

    Raises:
        BackendError: a package is not installed, or can't be imported.
    """
    if how := how_to_install(packages):
        names = ", ".join(how.removeprefix("pip install ").split())
        raise BackendError(f"{purpose} needs {names}: {how}")
    try:
        return import_module(module)
    except ImportError as error:
        raise BackendError(f"{purpose} fails to load: {error}") from error


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that a submodule is looked for in
        return False
