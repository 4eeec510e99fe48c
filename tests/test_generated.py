"""The committed files under ``generated/``, imported and run as a user would."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import cliquegraph
from cliquegraph import network_cost
from cliquegraph.compiler import Compilation

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))


def compilation_of(name: str) -> Compilation:
    return Compilation(cliquegraph.load(ROOT / "specs" / f"{name}.yaml"))


def class_of(backend: str, compilation: Compilation) -> Any:
    network = compilation.network
    module = importlib.import_module(f"generated.{backend}.{network.name}")
    assert module.__all__ == [network.python_class]
    return getattr(module, network.python_class)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_there_is_a_file_for_each_spec_and_no_other(backend: str) -> None:
    assert sorted(path.stem for path in (ROOT / "generated" / backend).glob("*.py")) == NAMES


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_s3_fits_in_600_lines_of_100_columns(backend: str) -> None:
    lines = (ROOT / "generated" / backend / "cliquenet_s3.py").read_text().splitlines()
    assert len(lines) <= 600
    assert max(map(len, lines)) <= 100


# Without gradients too, for one of each kind: the counter hooks tensor arguments of modules.
COUNTED = [
    *((name, True) for name in NAMES),
    *((name, False) for name in ("quickstart", "cliquenet_s0", "densenet121", "resnet50")),
]


@pytest.mark.parametrize(("name", "gradients"), COUNTED)
def test_pytorch_counts_what_the_compiler_counts(name: str, gradients: bool) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    compilation = compilation_of(name)
    images, parameters = compilation.network.input, compilation.cost.total.parameters
    executed = network_cost(compilation.graph).total  # not the steps that nothing needs
    with torch.device("meta"):
        model = class_of("torch", compilation)().eval()
        x = torch.empty(1, images.channels, images.height, images.width)
    with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
        logits = model(x)
    assert logits.shape == (1, compilation.network.classifier.classes)
    assert counter.get_total_flops() == executed.flops
    assert sum(each.numel() for each in model.parameters()) == parameters


@pytest.mark.parametrize("name", NAMES)
def test_flax_has_the_parameters_and_shapes_that_the_compiler_says(name: str) -> None:
    import jax
    from flax import nnx

    compilation = compilation_of(name)
    images = compilation.network.input
    create = class_of("flax", compilation)
    model = nnx.eval_shape(lambda: create(7, rngs=nnx.Rngs(0)))
    model.eval()
    definition, parameters, rest = nnx.split(model, nnx.Param, ...)
    classes = compilation.network.classifier.classes
    last = compilation.graph.tensors[-2]  # the classifier's weight, (classes, width)
    counted = sum(each.size for each in jax.tree.leaves(parameters))
    assert counted == compilation.cost.total.parameters - (classes - 7) * (last.shape[1] + 1)

    def forward(parameters: Any, rest: Any, x: jax.Array) -> tuple[Any, Any]:
        network = nnx.merge(definition, parameters, rest, copy=True)
        return network(x), network.forward_features(x)

    x = jax.ShapeDtypeStruct((2, images.height, images.width, images.channels), "float32")
    logits, features = jax.eval_shape(forward, parameters, rest, x)
    assert logits.shape == (2, 7)
    maps = [value.type for value in compilation.graph.features]
    assert [each.shape for each in features] == [
        (2, each.height, each.width, each.channels) for each in maps
    ]
