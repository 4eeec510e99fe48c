"""``cliquegraph.build``: classes without files, as good as those of a module on disk."""

from __future__ import annotations

import copy
import inspect
import json
import linecache
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import cliquegraph
from cliquegraph.built.names import Recipe, recipe_of
from cliquegraph.diagnostics.errors import BackendError, UsageError
from tests.networks import EVERY_KEY

ROOT = Path(__file__).resolve().parents[2]
SPEC = {
    "name": "tiny",
    "input": {"channels": 1, "height": 8, "width": 8},
    "stem": {"filters": 4},
    "blocks": [{"layers": 2, "filters": 4}],
    "classifier": {"classes": 3},
}
IMAGES = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 1, 8, 8)

CHILD = """
import json, multiprocessing, pickle, sys, torch

def logits(model):
    with torch.no_grad():
        return model(torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)).tolist()

if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        kind, model, block, twin = pickle.load(file)
    whole = torch.load(sys.argv[2], weights_only=False)
    assert "cliquegraph" not in globals() and type(model) is kind is type(whole)
    assert type(model.block1) is type(block)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps([logits(whole), pool.apply(logits, (model,)), type(twin).__name__]))
"""


def torch_model(level: int = 0) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = cliquegraph.build(SPEC, "torch", level=level)().eval()
    return model


def run(model: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(IMAGES)).numpy()
    return logits


def test_models_pass_to_another_process(tmp_path: Path) -> None:
    model = torch_model(level=1)
    twin = cliquegraph.build(SPEC, "flax")(rngs=nnx.Rngs(0))
    pickled, saved, child = tmp_path / "all.pkl", tmp_path / "model.pt", tmp_path / "child.py"
    pickled.write_bytes(pickle.dumps((type(model), model, model.block1, twin)))
    torch.save(model, saved)
    child.write_text(CHILD)
    command = [sys.executable, str(child), str(pickled), str(saved)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    whole, passed, name = json.loads(ran.stdout)
    np.testing.assert_allclose(whole, run(model), rtol=1e-6)
    np.testing.assert_allclose(passed, run(model), rtol=1e-6)
    assert name == "Tiny"


def test_models_are_copied() -> None:
    model = torch_model(level=2)
    np.testing.assert_array_equal(run(copy.deepcopy(model)), run(model))
    twin = cliquegraph.build(SPEC, "flax", level=2)(rngs=nnx.Rngs(0))
    twin.eval()
    images = jnp.asarray(IMAGES.transpose(0, 2, 3, 1))
    for again in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):  # noqa: S301  # our own
        np.testing.assert_array_equal(again(images), twin(images))


def test_the_same_network_has_the_same_class() -> None:
    spec = cliquegraph.load(SPEC)
    assert cliquegraph.build(SPEC, "torch") is cliquegraph.build(spec, "torch", level=0)
    assert cliquegraph.build(SPEC, "torch") is not cliquegraph.build(SPEC, "torch", level=1)


def test_its_source_is_what_compile_returns() -> None:
    model = cliquegraph.build(SPEC, "torch")
    source = cliquegraph.compile(SPEC, "torch")
    linecache.checkcache()
    assert inspect.getsource(model) in source
    assert inspect.getsource(model).startswith("class Tiny(nn.Module):")
    assert inspect.getsource(sys.modules[model.__module__]) == source


def test_tracebacks_show_generated_lines() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch_model()(torch.zeros(1, 2, 8, 8))
    shown = "".join(traceback.format_exception(caught.value))
    assert 'File "<cliquegraph tiny_torch_O0 ' in shown
    assert "= self.stem(x" in shown


def test_folded_models_take_the_weights() -> None:
    model = torch_model()
    folded = cliquegraph.build(SPEC, "torch", inference=True)().eval()
    cliquegraph.load_weights(folded, SPEC, cliquegraph.model_weights(model, SPEC))
    np.testing.assert_allclose(run(folded), run(model), atol=1e-5)


def test_names_hold_every_network() -> None:
    networks = [*EVERY_KEY.values(), *map(cliquegraph.load, (ROOT / "specs").glob("*.yaml"))]
    for network in networks:
        recipe = Recipe(network, "torch", 1, False)
        name = recipe.module.rpartition(".")[2]
        assert name.isidentifier()
        assert recipe_of(recipe.module) == recipe


def test_other_names_are_no_modules() -> None:
    name = Recipe(cliquegraph.load(SPEC), "torch", 0, False).module
    for wrong in (
        "cliquegraph.built.x",
        f"{name[:-6]}",
        f"{name}é",
        name.replace("built", "other"),
    ):
        assert recipe_of(wrong) is None
    with pytest.raises(ModuleNotFoundError):
        __import__("cliquegraph.built.nothing__here")


@pytest.mark.parametrize(
    ("backend", "level", "message"),
    [
        ("pytorch", 0, "there is no backend 'pytorch'; installed: flax, torch; did you mean"),
        (torch, 0, "expected the name of a backend, found a module"),
        ("torch", 7, "there is no level -O7; this version has -O0, -O1, -O2"),
        ("torch", "1", "a level is an integer, such as 0, not '1'"),
    ],
)
def test_wrong_arguments(backend: str, level: int, message: str) -> None:
    with pytest.raises((BackendError, UsageError)) as caught:
        cliquegraph.build(SPEC, backend, level=level)
    assert message in str(caught.value)
