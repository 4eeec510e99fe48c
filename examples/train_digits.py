"""Train the generated quickstart network on scikit-learn's handwritten digits.

    python examples/train_digits.py --backend torch
    python examples/train_digits.py --backend flax

1,797 images of 8×8 pixels in 10 classes, 20 % of them for testing; the recipe is the paper's
(section 4.1), shortened: SGD with Nesterov momentum 0.9, weight decay 1e-4, learning rate 0.1
divided by 10 at 50 % and 75 %. Both backends see the same batches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the folder `generated`

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4
BATCH = 64

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class Digits(NamedTuple):
    """Images (count, 1, 8, 8), normalised; labels (count,)."""

    train_images: Images
    test_images: Images
    train_labels: Labels
    test_labels: Labels


class Trainer(NamedTuple):
    """``step`` takes a batch and a rate and returns the loss; ``predict`` returns classes."""

    step: Callable[[Images, Labels, float], float]
    predict: Callable[[Images], Labels]


def load(seed: int) -> Digits:
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, test_size=0.2, random_state=seed, stratify=labels)
    train, test, train_labels, test_labels = split
    mean, std = train.mean(), train.std()
    normalised = [((x - mean) / std).reshape(-1, 1, 8, 8).astype(np.float32) for x in (train, test)]
    return Digits(*normalised, train_labels.astype(np.int64), test_labels.astype(np.int64))


def batches(digits: Digits, epoch: int, seed: int) -> Iterator[tuple[Images, Labels]]:
    order = np.random.default_rng((seed, epoch)).permutation(len(digits.train_labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield digits.train_images[chosen], digits.train_labels[chosen]


def torch_trainer(seed: int) -> Trainer:
    import torch
    from torch.nn.functional import cross_entropy

    from generated.torch.quickstart import Quickstart

    torch.manual_seed(seed)
    model = Quickstart()
    optimiser = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )

    def step(images: Images, labels: Labels, rate: float) -> float:
        model.train()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss = cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
        loss.backward()
        optimiser.step()
        return loss.item()

    def predict(images: Images) -> Labels:
        model.eval()
        with torch.no_grad():
            return model(torch.from_numpy(images)).argmax(1).numpy()

    return Trainer(step, predict)


def flax_trainer(seed: int) -> Trainer:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from generated.flax.quickstart import Quickstart

    model = Quickstart(rngs=nnx.Rngs(seed))
    rule = optax.inject_hyperparams(
        lambda rate: optax.chain(
            optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(rate, MOMENTUM, nesterov=True)
        )
    )(rate=LEARNING_RATE)
    optimiser = nnx.Optimizer(model, rule, wrt=nnx.Param)

    def loss_of(model: Quickstart, images: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    @nnx.jit
    def train(model: Any, optimiser: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        loss, gradients = nnx.value_and_grad(loss_of)(model, images, labels)
        optimiser.update(model, gradients)
        return loss

    classify = nnx.jit(lambda model, images: model(images).argmax(1))

    def step(images: Images, labels: Labels, rate: float) -> float:
        model.train()
        optimiser.opt_state.hyperparams["rate"][...] = jnp.asarray(rate)
        return float(train(model, optimiser, images.transpose(0, 2, 3, 1), labels))

    def predict(images: Images) -> Labels:
        model.eval()
        return np.asarray(classify(model, images.transpose(0, 2, 3, 1)))

    return Trainer(step, predict)


def train(backend: str, epochs: int, seed: int) -> float:
    """Return the accuracy on the test images."""
    digits = load(seed)
    trainer = {"torch": torch_trainer, "flax": flax_trainer}[backend](seed)
    columns = (
        TextColumn(f"{backend} {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("compiling", total=epochs)
        for epoch in range(epochs):
            rate = LEARNING_RATE * 0.1 ** ((epoch >= epochs * 0.5) + (epoch >= epochs * 0.75))
            losses = [trainer.step(*batch, rate) for batch in batches(digits, epoch, seed)]
            progress.update(task, advance=1, description=f"loss {np.mean(losses):.4f}")
    return float(np.mean(trainer.predict(digits.test_images) == digits.test_labels))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train quickstart on scikit-learn's digits.")
    parser.add_argument("--backend", choices=("torch", "flax"), default="torch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    accuracy = train(arguments.backend, arguments.epochs, arguments.seed)
    print(f"test accuracy {accuracy:.2%} ({arguments.backend}, {arguments.epochs} epochs)")


if __name__ == "__main__":
    main()
