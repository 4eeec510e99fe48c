"""A custom training loop for a generated Flax model.

    python examples/own_loop_flax.py --epochs 10

The model is `generated/flax/quickstart.py`; cliquegraph provides only the images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import optax
from flax import nnx

from cliquegraph.data import Treatment, open_data, prefetched

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the folder `generated`

from generated.flax.quickstart import Quickstart


@nnx.jit
def train_step(
    model: Quickstart, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> None:
    def loss_of(model: Quickstart) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    optimizer.update(model, nnx.grad(loss_of)(model))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train quickstart on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs

    data = open_data("digits", shape=(1, 8, 8), classes=10, treatment=Treatment())
    model = Quickstart(rngs=nnx.Rngs(0))
    rate = optax.cosine_decay_schedule(0.1, epochs * len(data.training(64)))
    rule = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(rate, 0.9, nesterov=True))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    for epoch in range(epochs):
        for batch in prefetched(data.training(64).epoch(epoch)):
            train_step(model, optimizer, batch.images.transpose(0, 2, 3, 1), batch.labels)
    model.eval()
    classify = nnx.jit(lambda model, images: model(images).argmax(1))
    hits = count = 0
    for batch in data.evaluation("test", 64).epoch(0):
        guesses = classify(model, batch.images.transpose(0, 2, 3, 1))
        hits += (guesses == batch.labels).sum()  # padding of the last batch is labeled -1
        count += (batch.labels >= 0).sum()
    print(f"test accuracy {hits / count:.2%} ({epochs} epochs)")


if __name__ == "__main__":
    main()
