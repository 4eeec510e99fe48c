"""Completion of arguments in the shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

Complete = Callable[[str], list[str]]

_SPECS = (".yaml", ".yml", ".json")


def starting(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that start with what was typed."""
    return [name for name in names if name.startswith(incomplete)]


def one_of(*names: str) -> Complete:
    """Return a completion with fixed names."""
    return lambda incomplete: starting(names, incomplete)


def complete_spec(incomplete: str) -> list[str]:
    """Complete a spec: the names of shipped ones, folders, and YAML and JSON files."""
    from cliquegraph.spec.shipped import shipped

    return [*starting(shipped(), incomplete), *_paths(incomplete)]


def complete_shipped(incomplete: str) -> list[str]:
    """Complete the name of a shipped spec."""
    from cliquegraph.spec.shipped import shipped

    return starting(shipped(), incomplete)


def complete_backend(incomplete: str) -> list[str]:
    """Complete a backend's name, or all."""
    from cliquegraph.plugins.backends import installed

    return starting((*installed(), "all"), incomplete)


def complete_backends(incomplete: str) -> list[str]:
    """Complete the last of several backends, comma-separated."""
    from cliquegraph.plugins.backends import installed

    before, comma, last = incomplete.rpartition(",")
    left = [name for name in installed() if name not in before.split(",")]
    return [f"{before}{comma}{name}" for name in starting(left, last)]


def complete_engine(incomplete: str) -> list[str]:
    """Complete the name of a backend that trains."""
    from cliquegraph.plugins.discovery import entry_points_of
    from cliquegraph.plugins.engines import GROUP

    return starting((point.name for point in entry_points_of(GROUP)), incomplete)


def complete_recipe(incomplete: str) -> list[str]:
    """Complete the name of a recipe."""
    from cliquegraph.training.recipe import RECIPES

    return starting(RECIPES, incomplete)


def complete_precision(incomplete: str) -> list[str]:
    """Complete a precision."""
    from cliquegraph.training.job import PRECISIONS

    return starting(PRECISIONS, incomplete)


def complete_data(incomplete: str) -> list[str]:
    """Complete the name of a data set; ``folder:`` is followed by a path."""
    from cliquegraph.data.open import NAMES

    name, colon, path = incomplete.partition(":")
    if colon:  # shells that split words at a colon complete the path themselves
        return [f"{name}:{each}" for each in _paths(path, files=())]
    return starting((f"{each}:" if each == "folder" else each for each in NAMES), incomplete)


def complete_format(incomplete: str) -> list[str]:
    """Complete a format of weights."""
    from cliquegraph.weights import format_names

    return starting(format_names(), incomplete)


def _paths(incomplete: str, files: tuple[str, ...] = _SPECS) -> list[str]:
    """Folders, with a slash, and files of some suffixes; hidden ones only after a period."""
    head, slash, name = incomplete.rpartition("/")
    folder = Path(f"{head}{slash}" or ".").expanduser()
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    found = []
    for entry in entries:
        is_folder = entry.is_dir()
        if not entry.name.startswith(name) or (entry.name[0] == "." and not name):
            continue
        if is_folder or entry.suffix in files:
            found.append(f"{head}{slash}{entry.name}{'/' * is_folder}")
    return found
