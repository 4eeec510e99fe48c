"""Read the activations of each region at each time step, as comparisons with recordings need them.

    python examples/brain_score.py
    python examples/brain_score.py --weights last.safetensors

The model is `generated/torch/cornet_rt.py`. It prints, for ten digits, when the image reaches a
region, and how alike its activations are at two time steps.
"""

import argparse
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate

import cliquegraph

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the folder `generated`

SPEC = cliquegraph.load(ROOT / "specs" / "cornet_rt.yaml")
SIZE = 64  # pixels; the readout pools maps of any size


def ten_digits() -> Tensor:
    """One image of each digit, in three equal channels."""
    digits = load_digits()
    first = [list(digits.target).index(digit) for digit in range(10)]
    gray = torch.from_numpy(digits.images[first]).float() / 16 - 0.5
    return interpolate(gray[:, None].expand(-1, 3, -1, -1), SIZE, mode="bilinear")


def by_region(activations: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Return the units of each region, (images, units), one tensor for each time step.

    A key is `block1.X2@3`: layer 2 as stage 3 writes it. Layers have their names from the spec.
    """
    (block,) = SPEC.blocks
    steps = range(1, block.stages + 1)
    return {
        layer.name: [activations[f"block1.X{j}@{step}"].flatten(1) for step in steps]
        for j, layer in enumerate(block.layers, start=1)
    }


def across_images(units: Tensor) -> Tensor | None:
    """Return how units differ between images; None if nothing of the image has reached them."""
    differences = units - units.mean(0)
    return differences if differences.abs().max() > 1e-4 * units.abs().max() else None


def correlation(one: Tensor | None, other: Tensor | None) -> str:
    if one is None or other is None:
        return "–"
    return f"{torch.cosine_similarity(one.flatten(), other.flatten(), dim=0).item():.2f}"


def main() -> None:
    from generated.torch.cornet_rt import CORnetRT

    parser = argparse.ArgumentParser(description="Compare time steps of CORnet-RT.")
    parser.add_argument("--weights", help="a safetensors file; without it, the initial weights")
    weights = parser.parse_args().weights
    torch.manual_seed(0)
    model = CORnetRT().eval()
    if weights:
        cliquegraph.load_weights(model, SPEC, weights)
    with torch.inference_mode():
        regions = by_region(model.activations(ten_digits()))
    for name, steps in regions.items():
        seen = [across_images(units) for units in steps]
        first = next(step for step, units in enumerate(seen, start=1) if units is not None)
        print(f"{name}: {steps[0].shape[1]} units, reached in step {first}")
        for step, units in enumerate(seen, start=1):
            row = [correlation(units, other) for other in seen]
            print(f"  step {step}:", *(f"{each:>5}" for each in row))


if __name__ == "__main__":
    main()
