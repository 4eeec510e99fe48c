"""Writes a folder that tests and times the networks without the compiler.

The folder has the sources of every -O level, the literal model, weights of the small networks and
the scripts that run them. It needs PyTorch, or JAX and Flax, but neither the compiler nor its
dependencies.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.bundled.networks import FOLDED, LEVELS, MANIFEST, TINY
from benchmarks.harness import ROOT, Json, load_network
from benchmarks.literal_spec import literal_spec, uncovered
from cliquegraph import Graph, NetworkSpec, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.files import write_files
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Param
from cliquegraph.plugins.backends import find_backend
from cliquegraph.weights.layout import Layout


class Bundled(NamedTuple):
    """A network of the bundle: its spec, and what to generate from it."""

    spec: str
    overrides: tuple[str, ...] = ()
    weights: bool = False
    backends: tuple[str, ...] = ("torch", "flax")


_TINY = ("blocks.*.layers=2", "blocks.*.filters=4", "expect={}")
# Every kind of operation in few parameters: bottleneck, attention, compression, ImageNet's stem.
_SMALL = ("blocks.*.layers=3", "input.height=128", "input.width=128", "expect={}")

NETWORKS = {
    TINY: Bundled("quickstart", _TINY, weights=True),
    "quickstart": Bundled("quickstart", weights=True),
    "cliquenet_k36_t12": Bundled("cliquenet_k36_t12", weights=True),
    "cliquenet_s0_small": Bundled("cliquenet_s0", _SMALL, weights=True),
    "cliquenet_s3": Bundled("cliquenet_s3"),
    "densenet_k12_t96_bc": Bundled("densenet_k12_t96_bc", backends=("torch",)),
}

_SCRIPT = '''\
"""Tests and times generated networks on a GPU: one JSON line for each result.

    python gpu.py [--seconds 520] [--only PART[,PART]] [--dry] [--output FILE]

Needs PyTorch; the part flax needs JAX and Flax. Compiled by cliquegraph {commit}.
"""

from pathlib import Path

from benchmarks.bundled.conduct import main

if __name__ == "__main__":
    main(Path(__file__).resolve().parent, str(__doc__))
'''


def write_bundle(folder: Path, commit: Json) -> None:
    """Write a bundle.

    Args:
        folder: where to write; existing files are replaced.
        commit: the commit of the compiler, and whether files differ from it.
    """
    manifest: Json = {**commit, "networks": {}}
    for name, bundled in NETWORKS.items():
        network = load_network(bundled.spec, *bundled.overrides)
        manifest["networks"][name] = _described(network)
        _write_network(folder / "networks" / name, network, bundled)
    source = ROOT / "benchmarks"
    for path in (source / "literal.py", *sorted((source / "bundled").glob("*.py"))):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        # Make it a package, so that no installed one of that name is imported instead.
        (copy.parent / "__init__.py").touch()
    script = _SCRIPT.format(commit=commit["commit"] or "at an unknown commit")
    write_files({folder / MANIFEST: _json(manifest), folder / "gpu.py": script})


def _described(network: NetworkSpec) -> Json:
    covered = not list(uncovered(network))
    image = network.input
    return {
        "class": network.python_class,
        "input": [image.channels, image.height, image.width],
        "classes": network.classifier.classes,
        "literal": dataclasses.asdict(literal_spec(network)) if covered else None,
    }


def _write_network(folder: Path, network: NetworkSpec, bundled: Bundled) -> None:
    variants = {level: Compilation(network, int(level[1:])) for level in LEVELS}
    if bundled.weights:
        variants[FOLDED] = Compilation(network, inference=True)
    backends = {name: find_backend(name) for name in bundled.backends}
    write_files(
        {
            folder / f"{name}_{variant}.py": compilation.source(backend)
            for name, backend in backends.items()
            for variant, compilation in variants.items()
        }
    )
    if not bundled.weights:
        return
    layouts = {
        f"{name}_{variant}": _entries(compilation.graph, backend.layout)
        for name, backend in backends.items()
        for variant, compilation in variants.items()
    }
    write_files({folder / "layouts.json": _json(layouts)})
    # float32 is half the size; folding in float64 changes only the last digits.
    drawn = sample_tensors(variants[LEVELS[-1]].graph)
    weights = {name: array.astype(np.float32) for name, array in drawn.items()}
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    _save(folder / "weights.npz", weights)
    _save(folder / "folded.npz", variants[FOLDED].folded(exact))


def _entries(graph: Graph, layout: Layout) -> Json:
    """Return where a model stores canonical tensors, as ``networks.Layout`` reads it."""
    return {layout.name(param): _entry(param, layout) for param in graph.params}


def _entry(param: Param, layout: Layout) -> Json:
    return {
        "axis": param.axis,
        "axes": list(layout.axes(param)),
        "holdings": [
            [[tensor_name(piece.tensor), piece.start, piece.stop] for piece in pieces]
            for pieces in param.holdings
        ],
    }


def _save(path: Path, tensors: Mapping[str, Array | np.ndarray]) -> None:
    np.savez_compressed(path, allow_pickle=False, **tensors)


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
