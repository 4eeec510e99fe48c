"""The paper's recipes (section 4.1), as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import get_args

from cliquegraph.data import Augmentation, Normalisation, Treatment
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.backends import Sgd
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import MAX_BATCH, MAX_EPOCHS


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum, the rate divided at milestones.

    Attributes:
        name: what it is called.
        epochs: passes over the training set.
        batch_size: images in a step, over all devices and accumulated parts.
        learning_rate: of the first epoch.
        momentum: Nesterov's.
        weight_decay: on all parameters.
        milestones: shares of the epochs, ascending; the rate is multiplied by ``decay`` at each.
        decay: what the rate is multiplied by.
        normalisation, augmentation: as of ``Treatment``.

    Raises:
        UsageError: there is no such treatment, milestones that don't ascend, a count, rate or
            decay out of its range.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float = Sgd.learning_rate
    momentum: float = Sgd.momentum
    weight_decay: float = Sgd.weight_decay
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    normalisation: Normalisation = "standard"
    augmentation: Augmentation = "none"

    @property
    def treatment(self) -> Treatment:
        """What is done to the images."""
        return Treatment(self.normalisation, self.augmentation)

    def __post_init__(self) -> None:
        for name, choices in (
            ("normalisation", get_args(Normalisation)),
            ("augmentation", get_args(Augmentation)),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"there is no {name} {getattr(self, name)!r}; there are {', '.join(choices)}"
                )
        # As in a spec (spec/schema.py), for the options of `train`.
        for name, count, most in (
            ("epochs", self.epochs, MAX_EPOCHS),
            ("batch size", self.batch_size, MAX_BATCH),
        ):
            if not 1 <= count <= most:
                raise UsageError(f"{name} must be 1 to {most:,}, not {count}")
        for name, value, possible in (
            ("learning rate", self.learning_rate, 0 < self.learning_rate < math.inf),
            ("decay", self.decay, 0 < self.decay <= 1),
            ("momentum", self.momentum, 0 <= self.momentum < 1),
            ("weight decay", self.weight_decay, 0 <= self.weight_decay < math.inf),
        ):
            if not possible:
                raise UsageError(f"a {name} of {value:g} can't be trained with")
        shares = self.milestones
        if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise UsageError(
                f"milestones are ascending shares of the epochs, 0.5,0.75, not {shares}"
            )

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, from 0."""
        # 0.3 × 100 must be reached by epoch 30 whatever the last bit of the product.
        passed = sum(epoch >= share * self.epochs - 1e-9 for share in self.milestones)
        return self.learning_rate * self.decay**passed

    def schedule(self) -> tuple[tuple[int, float], ...]:
        """Return the first epoch of each rate, and the rate."""
        runs = groupby(range(self.epochs), key=self.rate)
        return tuple((next(epochs), rate) for rate, epochs in runs)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("cifar", epochs=300, batch_size=64),
        Recipe("svhn", epochs=40, batch_size=64, normalisation="unit"),
        Recipe(
            "imagenet",
            epochs=100,
            batch_size=160,
            milestones=(0.3, 0.6, 0.9),
            normalisation="imagenet",
            augmentation="resized_crop_flip",
        ),
    )
}
"""The paper's (section 4.1), by name."""


def recipe_of(network: NetworkSpec, name: str | None = None, **changes: object) -> Recipe:
    """Return the recipe of a network.

    Args:
        network: its ``training:`` section says what it changes in a named recipe.
        name: a recipe to take in place of the section's; the section's changes are kept.
        changes: fields to override; None leaves one as it is.

    Raises:
        UsageError: there is no such recipe, or the spec names none.
    """
    training = network.training
    named = name or (training and training.recipe)
    if named is None:
        raise UsageError(
            f"{network.name} has no training section: say --recipe {'|'.join(RECIPES)}"
        )
    if named not in RECIPES:
        raise UsageError(f"there is no recipe {named!r}; there are {', '.join(RECIPES)}")
    declared = {} if training is None else training.changes()
    asked = {key: value for key, value in changes.items() if value is not None}
    return replace(RECIPES[named], **{**declared, **asked})  # type: ignore[arg-type]  # by field
