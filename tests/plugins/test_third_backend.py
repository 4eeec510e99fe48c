"""Somebody else's backend: a package with an entry point and no line in the core.

``third_backend/`` is laid out as an installed package; a subprocess has it on its path.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import installed
from tests.networks import EVERY_KEY
from tests.packages import ROOT, run_with

FOLDER = Path(__file__).parents[1] / "third_backend"


def run(*arguments: str) -> str:
    return run_with(FOLDER, *arguments)


def test_it_is_not_installed_for_everybody() -> None:
    assert "numpy" not in installed()


def test_it_is_found_beside_ours_by_its_entry_point() -> None:
    found = run("-c", "from cliquegraph.plugins.backends import installed; print(*installed())")
    assert found.split() == ["flax", "numpy", "torch"]


def test_the_command_line_knows_it() -> None:
    listed = json.loads(run("-m", "cliquegraph", "backends", "--json"))
    assert {"name": "numpy", "from": "cliquegraph_numpy:BACKEND"}.items() <= listed[1].items()


COMPUTES = """
import sys
import numpy as np
import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend
from cliquegraph.emit.execute import load_source
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.ir.storage import to_storage

def compilations(spec):
    yield from (Compilation(spec, level) for level in LEVELS)
    yield Compilation(spec, inference=True)

specs = map(cliquegraph.loads, sys.argv[1:])
for compilation in (each for spec in specs for each in compilations(spec)):
    model = load_source(compilation.source(find_backend("numpy")), "generated").Small()
    graph = compilation.graph
    tensors = cliquegraph.sample_tensors(graph)
    layout = find_backend("numpy").layout
    for param, array in to_storage(graph, tensors).items():
        *path, name = layout.name(param).split(".")
        target = model
        for each in path:
            target = getattr(target, each)
        assert getattr(target, name).shape == array.shape
        setattr(target, name, array)
    size = compilation.network.input
    images = np.random.default_rng(0).normal(size=(2, size.channels, size.height, size.width))
    expected = cliquegraph.interpret(graph, tensors, images)
    np.testing.assert_allclose(model(images), expected.logits, rtol=1e-9, atol=1e-11)
    for found, feature in zip(model.forward_features(images), expected.features, strict=True):
        np.testing.assert_allclose(found, feature, rtol=1e-9, atol=1e-11)
    print("equal")
"""


def test_its_models_compute_what_the_interpreter_does_at_every_level_and_folded() -> None:
    specs = [spec.model_dump_json(exclude={"expect", "training"}) for spec in EVERY_KEY.values()]
    assert run("-c", COMPUTES, *specs).split() == ["equal"] * len(EVERY_KEY) * (len(LEVELS) + 1)


def test_no_part_of_the_core_names_a_backend() -> None:
    for file in (ROOT / "cliquegraph").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for package in ("cliquegraph_torch", "cliquegraph_flax", "cliquegraph_numpy"):
            assert package not in text, f"{file} names {package}"


@pytest.mark.parametrize("name", ["torch", "flax"])
def test_our_backends_are_found_the_same_way(name: str) -> None:
    assert installed()[name].value == f"cliquegraph_{name}:BACKEND"


WEIGHTS = """
import sys
import numpy as np
import cliquegraph
from cliquegraph.weights.tensors import open_tensors
from pathlib import Path

network = cliquegraph.loads(sys.argv[1])
there, back = sys.argv[2:]
tensors = cliquegraph.sample_tensors(cliquegraph.optimise(cliquegraph.lower(
    cliquegraph.unroll(network))))
cliquegraph.write_weights(network, tensors, there, "numpy")
with open_tensors(Path(there)) as source:
    assert source.infos["block1.w2"].shape[-1] == network.blocks[0].filters
cliquegraph.convert_weights(network, there, back, to="canonical")
found = cliquegraph.read_weights(network, back)
assert found.keys() == tensors.keys()
assert all(np.array_equal(found[name], array) for name, array in tensors.items())
print("equal")
"""


def test_weights_go_into_its_format_and_back(tmp_path: Path) -> None:
    files = [str(tmp_path / "there.safetensors"), str(tmp_path / "back.safetensors")]
    spec = EVERY_KEY["defaults"].model_dump_json(exclude={"expect", "training"})
    found = run("-c", WEIGHTS, spec, *files)
    assert found.split() == ["equal"]


GUIDE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")


def test_what_the_guide_shows_is_this_backend() -> None:
    *excerpts, comparison = re.findall(r"```(?:python|jinja)\n(.*?)```", GUIDE, re.DOTALL)
    files = [file for file in (FOLDER / "cliquegraph_numpy").rglob("*") if file.is_file()]
    sources = [file.read_text(encoding="utf-8") for file in files if file.suffix != ".pyc"]
    assert len(excerpts) > 3
    for excerpt in excerpts:
        assert any(excerpt in source for source in sources)
    run("-c", comparison)


LACKING = """
import cliquegraph
from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.prove import Prover

numpy = find_backend("numpy")
compilation = cliquegraph.Compilation(cliquegraph.load("quickstart"), 0)

def verify():
    cliquegraph.verify("quickstart", ["numpy"])

def refusal(call):
    try:
        call()
    except BackendError as error:
        print(error)

refusal(lambda: Prover(compilation).prove(compilation, numpy))
refusal(verify)
del type(numpy).executor
refusal(verify)
"""


def test_what_it_lacks_is_named() -> None:
    assert run("-c", LACKING).splitlines() == [
        "backend 'numpy' has no tracer, which prove needs",
        "backend 'numpy' evaluates and does not train",
        "backend 'numpy' has no executor, which verify needs",
    ]
