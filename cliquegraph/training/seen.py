"""How a trained network sees an image, and what it calls the classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cliquegraph.data import Images, Statistics, Treatment, known_statistics, load_image
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.files import destination
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.training.recipe import recipe_of
from cliquegraph.training.run import Run


@dataclass(frozen=True)
class Seen:
    """What stands between an image file and a class's name.

    Attributes:
        shape: (C, H, W) of the network's images.
        treatment: what is done to them.
        statistics: what they are normalised with; None: the mean and std of a training set.
        classes: names, by label.
    """

    shape: tuple[int, int, int]
    treatment: Treatment
    statistics: Statistics | None
    classes: tuple[str, ...]

    def image(self, path: Path) -> Images:
        """Return an image file as the network's input, (1, C, H, W).

        Raises:
            UsageError: there are no statistics; or as of ``load_image``.
            DataError: as of ``load_image``.
        """
        if self.statistics is None:
            raise UsageError(
                "images are normalised by the mean and std of the training set, and the weights "
                "lie in no run: put its run.json beside them, or say --recipe svhn or imagenet"
            )
        return load_image(
            path, shape=self.shape, statistics=self.statistics, treatment=self.treatment
        )


def seen_by(network: NetworkSpec, weights: Path, recipe: str | None = None) -> Seen:
    """Return how the network of a weights file sees images.

    Args:
        network: the network.
        weights: the file; a run in its folder says all.
        recipe: whose normalisation and margin instead; without a run None is the spec's.

    Raises:
        UsageError: there is no recipe, or what lies beside the weights is no run.
    """
    image = network.input
    shape = (image.channels, image.height, image.width)
    run = run_beside(weights)
    count = network.classifier.classes
    classes = run.facts.classes if run else tuple(map(str, range(count)))
    if len(classes) != count:
        raise UsageError(
            f"{weights} lies in a run of {len(classes)} classes, {network.name} has {count}"
        )
    if run and recipe is None:
        return Seen(shape, run.facts.recipe, run.facts.statistics, classes)
    treatment = recipe_of(network, recipe).treatment
    known = known_statistics(treatment.normalisation, image.channels)
    return Seen(shape, treatment, known, classes)


def run_beside(weights: Path) -> Run | None:
    """Return the run in whose folder a weights file lies.

    Raises:
        UsageError: links lead from the file to each other.
    """
    run = Run(destination(weights).parent)
    return run if run.exists else None
