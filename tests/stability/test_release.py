"""What a release wrote is still read: its weights, by its own generated files and by today's.

Each folder of ``v0_1`` was made by ``make.py`` of its ``spec.yaml`` and is not to be made again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import cliquegraph
from cliquegraph import NetworkSpec, interpret
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.proof.verification import TOLERANCE, relative_error
from tests.networks import EVERY_KEY, graph_of

RELEASE = Path(__file__).parent / "v0_1"
FOLDERS = sorted(RELEASE.iterdir())


@dataclass(frozen=True)
class Fixture:
    """A network of the release: its spec, its files, and what it computed."""

    folder: Path
    spec: NetworkSpec
    images: Array
    logits: Array

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    def source(self, backend: str) -> str:
        return (self.folder / f"{backend}.txt").read_text(encoding="utf-8")

    def assert_same(self, found: Array) -> None:
        assert relative_error({"": found}, {"": self.logits}) < TOLERANCE


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def release(request: pytest.FixtureRequest) -> Fixture:
    folder: Path = request.param
    with np.load(folder / "logits.npz") as held:
        return Fixture(folder, cliquegraph.load(folder / "spec.yaml"), **held)


def torch_logits(source: str, release: Fixture) -> Array:
    create: Any = getattr(load_source(source, "generated"), release.spec.python_class)
    model = create().double().eval()
    cliquegraph.load_weights(model, release.spec, release.weights)
    with torch.no_grad():
        logits: Array = model(torch.from_numpy(release.images)).numpy()
    return logits


def flax_logits(source: str, release: Fixture) -> Array:
    create: Any = getattr(load_source(source, "generated"), release.spec.python_class)
    with jax.enable_x64(True):
        model = create(rngs=nnx.Rngs(0), param_dtype=jnp.float64, dtype=jnp.float64)
        model.eval()
        cliquegraph.load_weights(model, release.spec, release.weights)
        return np.asarray(model(jnp.asarray(np.transpose(release.images, (0, 2, 3, 1)))))


def test_the_interpreter(release: Fixture) -> None:
    tensors = cliquegraph.read_weights(release.spec, release.weights)
    found = interpret(Compilation(release.spec).lowered, dict(tensors), release.images)
    release.assert_same(found.logits)


@pytest.mark.parametrize("level", LEVELS)
def test_todays_pytorch_model(level: int, release: Fixture) -> None:
    source = cliquegraph.compile(release.spec, "torch", level=level)
    release.assert_same(torch_logits(source, release))


def test_todays_flax_model(release: Fixture) -> None:
    release.assert_same(flax_logits(cliquegraph.compile(release.spec, "flax"), release))


def test_the_pytorch_file_of_the_release(release: Fixture) -> None:
    release.assert_same(torch_logits(release.source("torch"), release))


def test_the_flax_file_of_the_release(release: Fixture) -> None:
    release.assert_same(flax_logits(release.source("flax"), release))


def kinds_of_names(spec: NetworkSpec) -> set[str]:
    """The names of a network's tensors without the numbers of blocks, layers and stages."""
    return {re.sub(r"\d+", "", name) for name in cliquegraph.sample_tensors(graph_of(spec))}


def test_no_kind_of_name_is_left_out() -> None:
    held = [kinds_of_names(cliquegraph.load(folder / "spec.yaml")) for folder in FOLDERS]
    # What the language has learned since has no weights of that release.
    of_it = [
        spec
        for spec in EVERY_KEY.values()
        if {b.kind for b in spec.blocks} <= {"clique", "dense"} and not spec.readout.over_time
    ]
    assert set.union(*held) >= set.union(*map(kinds_of_names, of_it))
