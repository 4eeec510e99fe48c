"""The paper's recipes (section 4.1), as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import get_args

from cliquegraph.data import Augmentation, Normalization, Treatment
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.backends import Sgd
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import MAX_BATCH, MAX_EPOCHS


@dataclass(frozen=True)
class Recipe:
    """How to train a network: SGD with Nesterov momentum, learning rate reduced at milestones.

    Attributes:
        name: its name.
        epochs: passes over the training set.
        batch_size: images per step, over all devices and accumulated parts.
        learning_rate: in the first epoch.
        momentum: Nesterov momentum.
        weight_decay: on all parameters.
        milestones: fractions of the epochs, ascending; the rate is multiplied by ``decay`` at each.
        decay: the factor.
        normalisation, augmentation: as in ``Treatment``.
        stage_weights: of a readout over time, the weight of each stage in the loss; None: equal.

    Raises:
        UsageError: an unknown treatment, milestones not in ascending order, stage weights that are
            negative or all 0, or a count, rate or decay out of range.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float = Sgd.learning_rate
    momentum: float = Sgd.momentum
    weight_decay: float = Sgd.weight_decay
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    normalisation: Normalization = "standard"
    augmentation: Augmentation = "none"
    stage_weights: tuple[float, ...] | None = None

    @property
    def stage_shares(self) -> tuple[float, ...] | None:
        """The stage weights, divided by their sum."""
        if self.stage_weights is None:
            return None
        total = sum(self.stage_weights)
        return tuple(weight / total for weight in self.stage_weights)

    @property
    def treatment(self) -> Treatment:
        """The preprocessing of images."""
        return Treatment(self.normalisation, self.augmentation)

    def __post_init__(self) -> None:
        for name, choices in (
            ("normalisation", get_args(Normalization)),
            ("augmentation", get_args(Augmentation)),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"there is no {name} {getattr(self, name)!r}; choose from {', '.join(choices)}"
                )
        # The same bounds as in a spec (spec/schema.py), for the options of `train`.
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
                raise UsageError(f"the {name} {value:g} is out of range")
        shares = self.milestones
        if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise UsageError(
                f"milestones are ascending fractions of the epochs, 0.5,0.75, not {shares}"
            )

        weights = self.stage_weights
        if weights is not None and not (
            all(0 <= weight < math.inf for weight in weights) and sum(weights) > 0
        ):
            raise UsageError(
                "stage weights must be nonnegative and not all 0, such as 0,0,1; "
                f"found {','.join(f'{weight:g}' for weight in weights)}"
            )

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        # The tolerance makes 0.3 × 100 start at epoch 30 despite rounding.
        passed = sum(epoch >= share * self.epochs - 1e-9 for share in self.milestones)
        return self.learning_rate * self.decay**passed

    def extended(self, epochs: int) -> Recipe:
        """Return the recipe with more epochs: the rate falls where it did and then stays.

        Milestones are fractions of the epochs, and would lie elsewhere with more of them.

        >>> RECIPES["svhn"].extended(60).schedule() == RECIPES["svhn"].schedule()
        True
        """
        if epochs == self.epochs:
            return self
        shares = tuple(share * self.epochs / epochs for share in self.milestones)
        return replace(self, epochs=epochs, milestones=shares)

    def schedule(self) -> tuple[tuple[int, float], ...]:
        """Return each learning rate with its first epoch."""
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
"""The paper's recipes (section 4.1), by name."""


def recipe_of(network: NetworkSpec, name: str | None = None, **changes: object) -> Recipe:
    """Return the recipe of a network.

    Args:
        network: its ``training:`` section names a recipe and changes to it.
        name: a recipe that replaces the section's; the section's changes still apply.
        changes: fields to override; None: unchanged.

    Raises:
        UsageError: there is no such recipe, or the spec names none.
    """
    training = network.training
    named = name or (training and training.recipe)
    if named is None:
        raise UsageError(
            f"{network.name} has no training section: use --recipe {'|'.join(RECIPES)}"
        )
    if named not in RECIPES:
        raise UsageError(f"there is no recipe {named!r}; choose from {', '.join(RECIPES)}")
    declared = {} if training is None else training.changes()
    requested = {key: value for key, value in changes.items() if value is not None}
    return replace(RECIPES[named], **{**declared, **requested})  # type: ignore[arg-type]  # by field
