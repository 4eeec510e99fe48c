"""Small trainings, for the tests of engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cliquegraph import load
from cliquegraph.compiler import Compilation
from cliquegraph.data import open_data
from cliquegraph.training.job import Job, Source
from cliquegraph.training.recipe import recipe_of

SPEC = Path(__file__).resolve().parent.parent.parent / "specs" / "quickstart.yaml"
SMALL = ("blocks=[{layers: 2, filters: 4, dropout: 0.2}]", "expect={}")
"""What makes the quickstart network one that compiles in a moment."""


def small_job(
    backend: str,
    *,
    overrides: tuple[str, ...] = SMALL,
    subset: int = 192,
    epochs: int = 1,
    batch_size: int = 32,
    **options: Any,
) -> Job:
    """Training on some of scikit-learn's digits in float64, every step a row of ``steps.csv``."""
    network = load(SPEC, list(overrides))
    recipe = recipe_of(network, epochs=epochs, batch_size=batch_size)
    source = Source("digits", subset=subset)
    data = open_data(
        source.reference, shape=(1, 8, 8), classes=10, treatment=recipe.treatment, subset=subset
    )
    chosen = {"precision": "float64", "log_every": 1, **options}
    return Job(Compilation(network), backend, recipe, source, data, **chosen)
