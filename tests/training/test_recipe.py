"""Recipes: the paper's figures and schedules, what a spec and a user override."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cliquegraph import NetworkSpec, load
from cliquegraph.data import Treatment
from cliquegraph.diagnostics.errors import SpecError, UsageError
from cliquegraph.training.recipe import RECIPES, Recipe, recipe_of


def network(*overrides: str) -> NetworkSpec:
    return load("specs/quickstart.yaml", overrides)


@pytest.mark.parametrize(
    ("name", "starts", "batch_size"),
    [("cifar", (0, 150, 225), 64), ("svhn", (0, 20, 30), 64), ("imagenet", (0, 30, 60, 90), 160)],
)
def test_the_papers_schedules(name: str, starts: tuple[int, ...], batch_size: int) -> None:
    recipe = RECIPES[name]
    assert recipe.batch_size == batch_size
    assert tuple(first for first, _ in recipe.schedule()) == starts
    rates = [rate for _, rate in recipe.schedule()]
    assert rates == pytest.approx([0.1 * 0.1**i for i in range(len(starts))], rel=1e-12)


def test_milestones_are_reached_whatever_the_last_bit() -> None:
    for epochs in range(1, 400):
        recipe = replace(RECIPES["imagenet"], epochs=epochs)
        for epoch in range(epochs):
            tenths = sum(10 * epoch >= share * epochs for share in (3, 6, 9))
            assert recipe.rate(epoch) == 0.1 * 0.1**tenths


def test_a_specs_recipe_and_what_a_user_changes() -> None:
    assert recipe_of(network()) == RECIPES["cifar"]
    declared = network("training={recipe: svhn, epochs: 8, milestones: [0.25, 0.5]}")
    assert recipe_of(declared) == replace(RECIPES["svhn"], epochs=8, milestones=(0.25, 0.5))
    assert recipe_of(declared, epochs=2, momentum=None).epochs == 2
    imagenet = recipe_of(declared, "imagenet")
    assert (imagenet.name, imagenet.epochs, imagenet.batch_size) == ("imagenet", 8, 160)
    assert imagenet.treatment == Treatment("imagenet", "resized_crop_flip")


def test_what_there_is_not() -> None:
    untrained = network().model_copy(update={"training": None})
    with pytest.raises(UsageError, match=r"use --recipe cifar\|svhn\|imagenet"):
        recipe_of(untrained)
    with pytest.raises(UsageError, match="there is no recipe 'mnist'"):
        recipe_of(untrained, "mnist")
    with pytest.raises(SpecError, match="ascending fractions"):
        network("training={recipe: svhn, milestones: [0.5, 0.25]}")


def test_a_recipe_says_what_it_is_made_of() -> None:
    assert Recipe("mine", epochs=3, batch_size=2).schedule() == ((0, 0.1), (2, 0.1 * 0.1))
