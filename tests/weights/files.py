"""Files of weights for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cliquegraph
from cliquegraph import NetworkSpec, lower, optimise, sample_tensors, unroll
from cliquegraph.ir.storage import Array
from cliquegraph.weights.source import numpy_dtype
from cliquegraph.weights.tensors import open_tensors
from tests.official import official_arrays


def sampled(spec: NetworkSpec, dtype: str = "float32", seed: int = 0) -> dict[str, Array]:
    """Canonical tensors that every level can hold."""
    graph = optimise(lower(unroll(spec)), 1)
    tensors = sample_tensors(graph, seed)
    return {name: array.astype(numpy_dtype(dtype)) for name, array in tensors.items()}


def canonical_file(path: Path, spec: NetworkSpec, dtype: str = "float32") -> Path:
    cliquegraph.write_weights(spec, sampled(spec, dtype), path)
    return path


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What a file holds, to be compared to the bit."""
    with open_tensors(path) as source:
        return {
            name: (info.dtype, info.shape, source.read(name).tobytes())
            for name, info in source.infos.items()
        }


def official_state() -> dict[str, torch.Tensor]:
    """The authors' state dict."""
    arrays = official_arrays()
    return {
        name.removeprefix("state/"): torch.from_numpy(np.array(array))
        for name, array in arrays.items()
        if name.startswith("state/")
    }


def official_checkpoint(
    path: Path, state: Mapping[str, torch.Tensor] | None = None, **how: Any
) -> Path:
    """A checkpoint as the authors published theirs."""
    prefixed = {f"module.{name}": tensor for name, tensor in (state or official_state()).items()}
    whole = {"epoch": 3, "state_dict": prefixed, "best_prec1": 0.5, "optimizer": {"state": {}}}
    torch.save(whole, path, **how)
    return path
