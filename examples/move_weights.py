"""Copy the weights of a PyTorch model to a Flax one and show that both compute the same logits.

    python examples/move_weights.py

Writes ``quickstart.safetensors`` to the current folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import cliquegraph

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the folder `generated`


def main() -> None:
    from generated.flax.quickstart import Quickstart as FlaxQuickstart
    from generated.torch.quickstart import Quickstart as TorchQuickstart

    spec = cliquegraph.load(ROOT / "specs" / "quickstart.yaml")
    images = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)

    there = TorchQuickstart()
    there(torch.from_numpy(images))  # training mode: updates the running statistics
    tensors = cliquegraph.model_weights(there, spec)
    cliquegraph.write_weights(spec, tensors, "quickstart.safetensors")

    here = FlaxQuickstart(rngs=nnx.Rngs(0))
    cliquegraph.load_weights(here, spec, "quickstart.safetensors")
    here.eval()
    with torch.no_grad():
        expected = there.eval()(torch.from_numpy(images)).numpy()
    channels_last = jnp.asarray(np.transpose(images, (0, 2, 3, 1)))
    found = np.asarray(nnx.jit(lambda model, x: model(x))(here, channels_last))
    print(f"{len(tensors)} tensors; largest difference of logits {abs(found - expected).max():.1e}")


if __name__ == "__main__":
    main()
