"""Whatever a function takes for a network, and what it says of anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cliquegraph
from cliquegraph.diagnostics.errors import CliqueGraphError, SpecError

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "specs" / "quickstart.yaml"
NETWORK = cliquegraph.load(PATH)
DATA: dict[str, Any] = {
    "name": "tiny",
    "input": {"channels": 1, "height": 8, "width": 8},
    "stem": {"filters": 8},
    "block_defaults": {"filters": 4},
    "blocks": [{"layers": 3}],
    "classifier": {"classes": 10},
    "training": "cifar",
}
TEXT = """
cliquegraph: 1
name: tiny
input: {channels: 1, height: 8, width: 8}
stem: {filters: 8}
block_defaults: {filters: 4}
blocks: [{layers: 3}]
classifier: {classes: 10}
training: cifar
"""


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(CliqueGraphError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("given", [NETWORK, PATH, str(PATH), NETWORK.to_data()], ids=type)
def test_functions_take_networks_paths_and_dictionaries(given: Any, tmp_path: Path) -> None:
    assert cliquegraph.load(given) == NETWORK
    assert cliquegraph.unroll(given).network == NETWORK
    assert cliquegraph.compile(given, "torch").startswith('"""quickstart')
    assert cliquegraph.summary(given).total["parameters"] == 72994
    assert cliquegraph.memory_plan(given).batch == 1
    assert "quickstart" in repr(cliquegraph.render(given))
    tensors = cliquegraph.sample_tensors(cliquegraph.lower(cliquegraph.unroll(given)))
    path = tmp_path / "weights.safetensors"
    cliquegraph.write_weights(given, tensors, path)
    assert cliquegraph.read_weights(given, path).keys() == tensors.keys()
    assert cliquegraph.convert_weights(given, path, tmp_path / "torch.st", to="torch").tensors
    assert cliquegraph.fold(given, tensors)
    model = cliquegraph.build(given, "torch")()
    cliquegraph.load_weights(model, given, path)
    assert cliquegraph.model_weights(model, given).keys() == tensors.keys()


def test_a_dictionary_has_the_defaults_of_yaml() -> None:
    assert cliquegraph.load(DATA) == cliquegraph.loads(TEXT)
    assert cliquegraph.load(DATA).blocks[0].kind == "clique"


def test_a_dictionary_is_not_changed_and_takes_overrides_tuples_and_numpy() -> None:
    before = repr(DATA)
    changed = {**DATA, "blocks": ({"layers": np.int64(3)},)}
    network = cliquegraph.load(changed, "blocks.0.filters=6")
    assert network == cliquegraph.loads(TEXT, overrides=["blocks.0.filters=6"])
    assert cliquegraph.load(network, "blocks.0.filters=4") == cliquegraph.load(DATA)
    assert repr(DATA) == before


def test_a_network_from_python_needs_no_kind() -> None:
    blocks = [{"layers": 3, "filters": 4}]
    data = {key: value for key, value in DATA.items() if key != "block_defaults"}
    spec: Any = cliquegraph.NetworkSpec
    assert spec(**{**data, "cliquegraph": 1, "blocks": blocks}) == cliquegraph.load(DATA)


def test_a_network_is_printed_as_yaml() -> None:
    text = cliquegraph.dumps(cliquegraph.load(DATA))
    assert "kind" not in text
    assert cliquegraph.loads(text) == cliquegraph.load(DATA)


def test_errors_in_a_dictionary_name_keys() -> None:
    with pytest.raises(SpecError) as caught:
        cliquegraph.load({**DATA, "blocks": [{"layers": 3, "filtres": 4}]})
    (error,) = caught.value.diagnostics
    assert error.location is None
    assert "blocks.0: unknown key 'filtres'" in error.message
    assert error.hint == "did you mean 'filters'?"
    assert "--set:1:" in message_of(lambda: cliquegraph.load(DATA, "blocks.0.filtres=4"))


def test_keys_of_a_network_are_those_of_a_dictionary() -> None:
    data = {"cliquegraph": 1, **DATA}
    assert cliquegraph.NetworkSpec(**DATA) == cliquegraph.load(DATA)
    wrong = {**data, "stem": {"filtres": 8}}
    message = message_of(lambda: cliquegraph.NetworkSpec(**wrong))
    assert message == message_of(lambda: cliquegraph.load(wrong))
    assert "stem: unknown key 'filtres'" in message
    assert "did you mean 'filters'?" in message
    assert "missing key 'name'" in message_of(lambda: cliquegraph.NetworkSpec())


def test_overrides_are_texts() -> None:
    wrong: Any = {"blocks.0.filters": 6, "expect": {}}
    message = message_of(lambda: cliquegraph.load(DATA, wrong))
    assert "found a dictionary: write ['blocks.0.filters=6', 'expect={}']" in message
    assert cliquegraph.load(DATA, ["blocks.0.filters=6", "expect={}"]).blocks[0].filters == 6
    for each in (3, [3]):
        wrong = each
        for read in (cliquegraph.load, lambda _, given: cliquegraph.loads(TEXT, overrides=given)):
            message = message_of(lambda read=read, wrong=wrong: read(DATA, wrong))  # type: ignore[misc]
            assert "such as" in message and "blocks.0.filters=48" in message, message
            assert "found an int" in message


def test_a_dictionary_is_plain_data() -> None:
    assert "plain data: found a set" in message_of(lambda: cliquegraph.load({"name": {"a"}}))
    circle: dict[str, Any] = {}
    circle["name"] = circle
    assert "plain data: Circular" in message_of(lambda: cliquegraph.load(circle))


MODEL = torch.nn.Linear(2, 2)
STEPS = cliquegraph.unroll(NETWORK)

SLIPS: dict[str, tuple[Callable[[], object], str]] = {
    "text for a path": (lambda: cliquegraph.load(TEXT), "cliquegraph.loads(text) reads a spec"),
    "a path for text": (lambda: cliquegraph.loads("my.yaml"), "cliquegraph.load(path) reads"),
    "a dictionary for text": (lambda: cliquegraph.loads(DATA), "found a dict: cliquegraph.load"),  # type: ignore[arg-type]
    "a number": (lambda: cliquegraph.load(3), "expected a network: what cliquegraph.load"),  # type: ignore[arg-type]
    "a model": (lambda: cliquegraph.compile(MODEL, "torch"), "dictionary; found a Linear"),  # type: ignore[arg-type]
    "a missing file": (lambda: cliquegraph.compile("no.yaml", "torch"), "no.yaml: error[unreada"),
    "a class for a model": (
        lambda: cliquegraph.model_weights(torch.nn.Linear, NETWORK),
        "expected a model, found the class Linear: create one, Linear(…)",
    ),
    "a model for weights": (
        lambda: cliquegraph.write_weights(NETWORK, MODEL, "x"),  # type: ignore[arg-type]
        "expected a Mapping, found a Linear: pass cliquegraph.model_weights(model, network)",
    ),
    "a model for a file": (
        lambda: cliquegraph.read_weights(NETWORK, MODEL),  # type: ignore[arg-type]
        "expected the path of a weights file, found a Linear",
    ),
    "a network for a file": (
        lambda: cliquegraph.infer_spec(NETWORK),  # type: ignore[arg-type]
        "expected the path of a checkpoint, found a NetworkSpec",
    ),
    "a network for steps": (
        lambda: cliquegraph.prove_sharing(NETWORK),  # type: ignore[arg-type]
        "expected a StepGraph, found a NetworkSpec: pass cliquegraph.unroll(network)",
    ),
    "steps for a graph": (
        lambda: cliquegraph.print_graph(STEPS),  # type: ignore[arg-type]
        "found a StepGraph: pass cliquegraph.lower(cliquegraph.unroll(network))",
    ),
    "a framework for a backend": (
        lambda: cliquegraph.compile(NETWORK, torch),  # type: ignore[arg-type]
        "expected the name of a backend, such as 'flax', found a module",
    ),
    "another name of a backend": (
        lambda: cliquegraph.verify(NETWORK, "PyTorch"),
        "there is no backend 'PyTorch'; installed: flax, torch; did you mean 'torch'?",
    ),
    "a level that isn't there": (
        lambda: cliquegraph.summary(NETWORK, level=3),
        "there is no level -O3; this version has -O0, -O1, -O2",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_common_slips_are_named(slip: str) -> None:
    call, message = SLIPS[slip]
    assert message in message_of(call)
