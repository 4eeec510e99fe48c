"""Segment discs and squares, with a generated model as the backbone.

    python examples/segment_shapes.py

``forward_features`` returns the feature of each block at its own resolution. A minimal
segmentation head, as in fully convolutional networks, applies a 1×1 convolution to each, upsamples
the results to the image size and adds them. Backbone and head are trained together.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the folder `generated`

from generated.torch.fashion import Fashion

CLASSES = ("background", "disc", "square")
SIDE = 28


class Segmenter(nn.Module):
    """Logits of every pixel, (batch, classes, height, width)."""

    def __init__(self, backbone: Fashion, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        with torch.no_grad():
            features = backbone.eval().forward_features(torch.zeros(1, 1, SIDE, SIDE))
        self.heads = nn.ModuleList(nn.Conv2d(each.shape[1], classes, 1) for each in features)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone.forward_features(images)
        logits = [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        size = images.shape[-2:]
        return sum(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in logits)


def shapes(count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Noisy images (count, 1, 28, 28) of one disc and one square each, and a class per pixel."""
    row, column = np.mgrid[:SIDE, :SIDE]
    truth = np.zeros((count, SIDE, SIDE), np.int64)
    for mask in truth:
        (y, x), radius = random.integers(5, SIDE - 5, 2), random.integers(4, 7)
        mask[(row - y) ** 2 + (column - x) ** 2 <= radius**2] = 1
        (y, x), half = random.integers(5, SIDE - 5, 2), random.integers(3, 6)
        mask[(abs(row - y) <= half) & (abs(column - x) <= half)] = 2
    images = (truth > 0) + 0.3 * random.normal(size=truth.shape)
    return torch.from_numpy(images[:, None].astype(np.float32)), torch.from_numpy(truth)


def agreement(model: Segmenter, images: Tensor, truth: Tensor) -> float:
    """Mean intersection over union of discs and squares."""
    model.eval()
    with torch.no_grad():
        found = model(images).argmax(1)
    shares = []
    for label in range(1, len(CLASSES)):
        ours, theirs = found == label, truth == label
        shares.append((ours & theirs).sum() / (ours | theirs).sum())
    return float(torch.stack(shares).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment shapes with a generated backbone.")
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    test = shapes(64, random)
    model = Segmenter(Fashion(), len(CLASSES))
    print(f"intersection over union before training: {agreement(model, *test):.3f}")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, nesterov=True)
    for _ in range(steps):
        model.train()
        images, truth = shapes(16, random)
        optimizer.zero_grad()
        F.cross_entropy(model(images), truth).backward()
        optimizer.step()
    print(f"after {steps} steps: {agreement(model, *test):.3f}")


if __name__ == "__main__":
    main()
