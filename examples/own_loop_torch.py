"""A training loop of your own for a generated PyTorch model.

    python examples/own_loop_torch.py --epochs 10

The model is `generated/torch/quickstart.py`; cliquegraph gives the images alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from cliquegraph.data import Treatment, open_data, prefetched

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the folder `generated`

from generated.torch.quickstart import Quickstart


def main() -> None:
    parser = argparse.ArgumentParser(description="Train quickstart on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs

    data = open_data("digits", shape=(1, 8, 8), classes=10, treatment=Treatment())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Quickstart().to(device)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(epochs):
        model.train()
        for batch in prefetched(data.training(64).epoch(epoch)):
            images = torch.from_numpy(batch.images).to(device)
            labels = torch.from_numpy(batch.labels).to(device)
            loss = cross_entropy(model(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()

    model.eval()
    hits = count = 0
    with torch.inference_mode():
        for batch in data.evaluation("test", 64).epoch(0):
            guesses = model(torch.from_numpy(batch.images).to(device)).argmax(1).cpu().numpy()
            hits += (guesses == batch.labels).sum()  # what fills the last batch is labelled -1
            count += (batch.labels >= 0).sum()
    print(f"test accuracy {hits / count:.2%} ({epochs} epochs)")


if __name__ == "__main__":
    main()
