"""Preprocessing of images and class names of a trained network."""

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
class Preprocessing:
    """The preprocessing of image files and the class names.

    Attributes:
        shape: (C, H, W) of the network's images.
        treatment: normalization and augmentation in training.
        statistics: for normalization; None: the unknown mean and std of a training set.
        classes: class names, by label.
    """

    shape: tuple[int, int, int]
    treatment: Treatment
    statistics: Statistics | None
    classes: tuple[str, ...]

    def image(self, path: Path) -> Images:
        """Return an image file as the network's input, (1, C, H, W).

        Raises:
            UsageError: there are no statistics; or as in ``load_image``.
            DataError: as in ``load_image``.
        """
        if self.statistics is None:
            raise UsageError(
                "images are normalized by the mean and std of the training set, but the weights "
                "are not in a run: put its run.json beside them, or use --recipe svhn or imagenet"
            )
        return load_image(
            path, shape=self.shape, statistics=self.statistics, treatment=self.treatment
        )


def preprocessing_of(
    network: NetworkSpec, weights: Path, recipe: str | None = None
) -> Preprocessing:
    """Return the preprocessing for the network of a weights file.

    Args:
        network: the network.
        weights: the file; a run in its folder determines everything.
        recipe: whose normalization and margin to use instead; without a run None is the spec's.

    Raises:
        UsageError: there is no recipe, or the run beside the weights is invalid.
    """
    image = network.input
    shape = (image.channels, image.height, image.width)
    run = run_beside(weights)
    count = network.classifier.classes
    classes = run.facts.classes if run else tuple(map(str, range(count)))
    if len(classes) != count:
        raise UsageError(
            f"{weights} is in a run with {len(classes)} classes, but {network.name} has {count}"
        )
    if run and recipe is None:
        return Preprocessing(shape, run.facts.recipe, run.facts.statistics, classes)
    treatment = recipe_of(network, recipe).treatment
    known = known_statistics(treatment.normalisation, image.channels)
    return Preprocessing(shape, treatment, known, classes)


def run_beside(weights: Path) -> Run | None:
    """Return the run in whose folder a weights file is, or None.

    Raises:
        UsageError: the file's links form a cycle.
    """
    run = Run(destination(weights).parent)
    return run if run.exists else None
