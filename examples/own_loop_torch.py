"""A custom training loop for a generated PyTorch model.

    python examples/own_loop_torch.py --epochs 10

The model is `generated/torch/quickstart.py`; cliquegraph provides only the images.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from cliquegraph.data import Treatment, open_data, prefetched

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the folder `generated`
from generated.torch.quickstart import Quickstart

CUDA = torch.cuda.is_available()
FORMAT = torch.channels_last if CUDA else torch.contiguous_format


def put(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)  # only pinned memory is copied asynchronously
    return tensor.pin_memory().to("cuda", non_blocking=True) if CUDA else tensor


def main() -> None:
    parser = argparse.ArgumentParser(description="Train quickstart on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs
    data = open_data("digits", shape=(1, 8, 8), classes=10, treatment=Treatment())
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # all batches have the same shape
    model = Quickstart().to("cuda" if CUDA else "cpu", memory_format=FORMAT)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        model.train()
        for batch in prefetched(data.training(64).epoch(epoch)):
            images = put(batch.images).to(memory_format=FORMAT)
            loss = cross_entropy(model(images), put(batch.labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()
    hits, test = 0, data.evaluation("test", 64)
    with torch.inference_mode():
        for batch in test.epoch(0):
            guesses = model(put(batch.images).to(memory_format=FORMAT)).argmax(1).cpu().numpy()
            hits += (guesses == batch.labels).sum()  # padding of the last batch is labeled -1
    print(f"test accuracy {hits / test.count:.2%} ({epochs} epochs)")


if __name__ == "__main__":
    main()
