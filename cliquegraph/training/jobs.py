"""The images and the recipe of a training, from its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cliquegraph.compiler import Compilation
    from cliquegraph.data import Dataset, Statistics, Treatment
    from cliquegraph.training.job import Source
    from cliquegraph.training.recipe import Recipe


PREFERRED = "torch"
"""The backend to train and run in if several are installed and none is named."""


def open_source(
    compilation: Compilation,
    treatment: Treatment,
    source: Source,
    seed: int,
    statistics: Statistics | None = None,
) -> Dataset:
    """Return the images of a source, for a network's input."""
    from cliquegraph.data import open_data

    image = compilation.network.input
    return open_data(
        source.reference,
        shape=(image.channels, image.height, image.width),
        classes=compilation.network.classifier.classes,
        treatment=treatment,
        validation=source.validation,
        subset=source.subset,
        seed=seed,
        statistics=statistics,
    )


def chosen_engine() -> str:
    """Return the backend to train or run in if none is named."""
    from cliquegraph.plugins.engines import default_engine

    return default_engine(PREFERRED)


def recipe_for(compilation: Compilation, name: str | None, **changes: Any) -> Recipe:
    """Return the recipe of a network, with the requested changes."""
    from cliquegraph.training.recipe import recipe_of

    return recipe_of(compilation.network, name, **changes)
