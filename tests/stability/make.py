"""Makes a fixture of test_release.py: ``python -m tests.stability.make FOLDER``.

The folder holds ``spec.yaml``; what a release makes of it is written beside it. To be run once
for a release and not again: that old files still load is what the test shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import cliquegraph
from cliquegraph import interpret, sample_tensors
from cliquegraph.compiler import Compilation


def make(folder: Path) -> None:
    spec = cliquegraph.load(folder / "spec.yaml")
    compilation = Compilation(spec)
    tensors = sample_tensors(compilation.graph, seed=7)
    cliquegraph.write_weights(spec, tensors, folder / "weights.safetensors")
    shape = (3, spec.input.channels, spec.input.height, spec.input.width)
    images = np.random.default_rng(7).normal(size=shape)
    logits = interpret(compilation.lowered, tensors, images).logits
    np.savez(folder / "logits.npz", images=images, logits=logits)
    for backend in ("torch", "flax"):
        source = cliquegraph.compile(spec, backend)
        (folder / f"{backend}.txt").write_text(source, encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
