"""Makes the fixture of test_release.py anew: ``python -m tests.stability.make``.

To be run once for a release and not again: that old files still load is what the test shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cliquegraph
from cliquegraph import interpret, sample_tensors
from cliquegraph.compiler import Compilation
from tests.networks import shipped

FOLDER = Path(__file__).parent / "v0_1"

# Quickstart, every feature of it, at widths for which the weights stay small.
REDUCED = ("stem.filters=6", "block_defaults.filters=5", "expect={}")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    spec = shipped("quickstart", *REDUCED)
    compilation = Compilation(spec)
    tensors = sample_tensors(compilation.graph, seed=7)
    cliquegraph.write_weights(spec, tensors, FOLDER / "weights.safetensors")
    images = np.random.default_rng(7).normal(size=(3, 1, 8, 8))
    logits = interpret(compilation.lowered, tensors, images).logits
    np.savez(FOLDER / "logits.npz", images=images, logits=logits)
    for backend in ("torch", "flax"):
        source = cliquegraph.compile(spec, backend)
        (FOLDER / f"{backend}.txt").write_text(source, encoding="utf-8")


if __name__ == "__main__":
    main()
