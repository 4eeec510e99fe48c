"""Writes a trained network in a runtime's format, and compares the file with the interpreter."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.data import Treatment, margin_of
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.files import write_bytes, write_files
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.exporters import Exporter, find_exporter
from cliquegraph.semantics.interpret import interpret
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.training.seen import Preprocessing, preprocessing_of, run_beside
from cliquegraph.weights import read_weights

TOLERANCE = 1e-3
"""The error of logits in float32, relative to the largest."""

_OTHERS = frozenset(
    {".ckpt", ".json", ".npz", ".pt", ".pth", ".py", ".safetensors", ".yaml", ".yml"}
)
"""Names that would overwrite what somebody still needs."""

_BATCHES = (1, 3)
"""Sizes of batches that a file is run on."""


@dataclass(frozen=True)
class Exported:
    """The result of ``export``.

    Attributes:
        files: what was written.
        error: the largest difference of logits from the interpreter's, relative to the largest.
        metadata: as in the file.
    """

    files: tuple[Path, ...]
    error: float
    metadata: Mapping[str, Any]


def export(
    network: NetworkSpec,
    weights: str | os.PathLike[str],
    to: str,
    path: str | os.PathLike[str],
    *,
    recipe: str | None = None,
) -> Exported:
    """Write a trained network for a runtime, folded, for batches of any size, in float32.

    Labels and normalization of the run beside the weights are its metadata, in the file or, where
    the format has no place for them, beside it as ``FILE.json``.

    Args:
        network: the network.
        weights: a file in any format.
        to: ``onnx``, ``torch-export`` or ``stablehlo``.
        path: the file to write.
        recipe: whose normalization to record, without a run.

    Raises:
        WeightsError: the weights are not for this network.
        UsageError: there is no such format, or the file can't be written.
        BackendError: the format's packages are not installed.
        VerificationError: the written file computes something else than the interpreter.
    """
    exporter, target = find_exporter(to), Path(path)
    if target.suffix in _OTHERS:
        raise UsageError(
            f"{target}: {target.suffix} is the name of a spec, weights or source; choose another, "
            f"such as {network.name}.{to.partition('-')[0]}"
        )
    if to == "torch-export" and target.suffix != ".pt2":
        raise UsageError(
            f"{target}: names of torch.export's files end with .pt2, such as {network.name}.pt2"
        )
    seen = _preprocessing(network, Path(weights), recipe)
    tensors = read_weights(network, weights)
    compilation = Compilation(network, inference=True)
    metadata = _metadata(compilation, exporter, seen)
    content = exporter.export(compilation, tensors, metadata)
    write_bytes(target, [content])
    error = _error(compilation, tensors, exporter, target)
    if not error <= TOLERANCE:  # nor if it is NaN
        target.unlink()
        raise VerificationError(
            f"{target} differs from the interpreter by {error:.1e} of the largest logit, more than "
            f"{TOLERANCE:.0e}; it was removed"
        )
    files = [target]
    if not exporter.has_metadata:
        files.append(target.with_name(f"{target.name}.json"))
        write_files({files[-1]: json.dumps(metadata, indent=2) + "\n"})
    return Exported(tuple(files), error, metadata)


def _preprocessing(network: NetworkSpec, weights: Path, recipe: str | None) -> Preprocessing:
    """The preprocessing in training; unknown statistics where nothing tells of a training."""
    if recipe is None and network.training is None and run_beside(weights) is None:
        image = network.input
        classes = tuple(map(str, range(network.classifier.classes)))
        shape = (image.channels, image.height, image.width)
        return Preprocessing(shape, Treatment(), None, classes)
    return preprocessing_of(network, weights, recipe)


def _metadata(compilation: Compilation, exporter: Exporter, seen: Preprocessing) -> dict[str, Any]:
    statistics = seen.statistics
    channels, height, width = seen.shape
    return {
        "network": compilation.network.name,
        "digest": compilation.lowered.digest(),
        "layout": exporter.layout,
        "channels": channels,
        "height": height,
        "width": width,
        "margin": margin_of(seen.treatment),
        "mean": None if statistics is None else list(statistics.mean),
        "std": None if statistics is None else list(statistics.std),
        "classes": list(seen.classes),
        "outputs": ["stage", "batch", "class"] if compilation.stages else ["batch", "class"],
    }


def _error(
    compilation: Compilation, tensors: Mapping[str, Array], exporter: Exporter, path: Path
) -> float:
    image, classify = compilation.network.input, exporter.classifier(path)
    shape = (max(_BATCHES), image.channels, image.height, image.width)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wide = {name: array.astype(np.float64) for name, array in tensors.items()}
    expected = interpret(compilation.lowered, wide, images[:1].astype(np.float64)).logits
    scale = max(float(np.abs(expected).max()), 1e-6)
    errors = [
        np.abs(classify(images[:batch])[..., :1, :] - expected).max() / scale for batch in _BATCHES
    ]
    return float(max(errors))
