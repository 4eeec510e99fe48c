"""Where plugins are found: entry points of installed packages, and of a checkout."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path


def entry_points_of(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, by name; of several with one name, the checkout's."""
    found = {point.name: point for point in (*entry_points(group=group), *_of_checkout(group))}
    return [found[name] for name in sorted(found)]


def _of_checkout(group: str) -> list[EntryPoint]:
    """The entry points that a checkout would have if it were installed.

    On a machine without network the project runs from its folder, with ``PYTHONPATH=.:backends``;
    and what pip wrote of a checkout is as old as its last installation.
    """
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if not project.is_file():
        return []
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]
    return [EntryPoint(name, value, group) for name, value in declared[group].items()]
