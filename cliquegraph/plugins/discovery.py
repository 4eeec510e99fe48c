"""Discovery of plugins: entry points of installed packages, and of a checkout."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path


def entry_points_of(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, by name; those of a checkout take precedence."""
    points = {point.name: point for point in (*entry_points(group=group), *_of_checkout(group))}
    return [points[name] for name in sorted(points)]


def _of_checkout(group: str) -> list[EntryPoint]:
    """The entry points that a checkout would have if it were installed.

    Without network access the project runs from its folder, with ``PYTHONPATH=.:backends``, and
    pip's metadata of an editable checkout may be out of date.
    """
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if not project.is_file():
        return []
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]
    return [EntryPoint(name, value, group) for name, value in declared[group].items()]
