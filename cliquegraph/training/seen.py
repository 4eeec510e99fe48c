"""How a trained network sees an image, and what it calls the classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cliquegraph.data import Images, Statistics, Treatment, known_statistics, load_image
from cliquegraph.errors import UsageError
from cliquegraph.spec.schema import NetworkSpec
from cliquegraph.training.recipe import recipe_of
from cliquegraph.training.run import Run


@dataclass(frozen=True)
class Seen:
    """What stands between an image file and a class's name.

    Attributes:
        shape: (C, H, W) of the network's images.
        treatment, statistics: how they are normalised.
        classes: names, by label.
    """

    shape: tuple[int, int, int]
    treatment: Treatment
    statistics: Statistics
    classes: tuple[str, ...]

    def image(self, path: Path) -> Images:
        """Return an image file as the network's input, (1, C, H, W).

        Raises:
            UsageError, DataError: as of ``load_image``.
        """
        return load_image(
            path, shape=self.shape, statistics=self.statistics, treatment=self.treatment
        )


def seen_by(network: NetworkSpec, weights: Path, recipe: str | None = None) -> Seen:
    """Return how the network of a weights file sees images.

    Args:
        network: the network.
        weights: the file; a run in its folder says all.
        recipe: whose normalisation where there is no run; None: that of the spec.

    Raises:
        UsageError: there is no run, and the normalisation is by a training set's statistics.
    """
    image = network.input
    shape = (image.channels, image.height, image.width)
    run = Run(weights.resolve().parent)
    if run.exists:
        return Seen(shape, run.treatment, run.statistics, tuple(run.facts["classes"]))
    treatment = recipe_of(network, recipe).treatment
    known = known_statistics(treatment.normalisation, image.channels)
    if known is None:
        raise UsageError(
            f"{weights} lies in no run, and images are normalised by the mean and std of the "
            "training set: put the run's run.json beside it, or say --recipe svhn or imagenet"
        )
    return Seen(shape, treatment, known, tuple(map(str, range(network.classifier.classes))))
