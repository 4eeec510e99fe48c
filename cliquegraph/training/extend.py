"""More epochs for a run: ``train --resume --extend``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.training.recipe import Recipe
from cliquegraph.training.run import Run


def extended(recipe: Recipe, folder: Path) -> Recipe:
    """Return a recipe with more epochs than a run's, after the run's schedule.

    Args:
        recipe: what was requested; its milestones are ignored.
        folder: the run's folder.

    Raises:
        UsageError: the folder holds no run, or one of more epochs.
    """
    before = Run(folder).schedule
    if recipe.epochs < before.epochs:
        raise UsageError(
            f"{folder} has {before.epochs} epochs: --extend takes as many or more, "
            f"not {recipe.epochs}"
        )
    started = replace(recipe, epochs=before.epochs, milestones=before.milestones)
    return started.extended(recipe.epochs)  # unchanged by the same command a second time
