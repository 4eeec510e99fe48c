"""The hand-written model of the benchmarks computes the networks that it is compared with."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.literal import LiteralCliqueNet, LiteralSpec, load_canonical
from benchmarks.literal_spec import literal_model, literal_spec
from cliquegraph import NetworkSpec, interpret, sample_tensors
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array
from tests.networks import clique, graph_of, network, shipped

NETWORKS = {
    "quickstart": shipped("quickstart"),
    "imagenet": shipped(
        "cliquenet_s3",
        "blocks.*.layers=3",
        "blocks.0.filters=4",
        "blocks.1.filters=3",
        "blocks.2.filters=2",
        "blocks.3.filters=5",
        "stem.filters=6",
        "input.height=62",
        "input.width=64",
        "classifier.classes=7",
        "expect={}",
    ),
    "plain": network({"layers": 2, "filters": 3}, {"layers": 4, "filters": 2, "kernel": 5}),
}


def images_of(spec: NetworkSpec, batch: int = 3) -> Array:
    image = spec.input
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, image.channels, image.height, image.width))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_the_interpreter_computes(name: str, training: bool) -> None:
    spec = NETWORKS[name]
    graph = graph_of(spec)
    tensors, images = sample_tensors(graph), images_of(spec)
    expected = interpret(graph, tensors, images, training=training)
    model = literal_model(spec).double().train(training)
    load_canonical(model, tensors)
    with torch.no_grad():
        logits = model(torch.from_numpy(images)).numpy()
    assert np.abs(logits - expected.logits).max() <= 1e-10 * np.abs(expected.logits).max()
    held = {key: tensor.numpy(force=True) for key, tensor in model.canonical()}
    for key, running in expected.running.items():
        assert np.abs(held[key] - running).max() <= 1e-10 * np.abs(running).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_its_tensors_are_the_canonical_ones(name: str) -> None:
    spec = NETWORKS[name]
    tensors = sample_tensors(graph_of(spec))
    model = literal_model(spec)
    assert {key: tuple(tensor.shape) for key, tensor in model.canonical()} == {
        key: array.shape for key, array in tensors.items()
    }
    owned = {tensor.data_ptr() for _, tensor in model.canonical()}
    assert {parameter.data_ptr() for parameter in model.parameters()} <= owned


@pytest.mark.parametrize("name", NETWORKS)
def test_its_description_survives_json(name: str) -> None:
    spec = literal_spec(NETWORKS[name])
    plain = json.loads(json.dumps(dataclasses.asdict(spec)))
    shapes = [
        {key: tensor.shape for key, tensor in LiteralCliqueNet(each).canonical()}
        for each in (spec, LiteralSpec.of(plain))
    ]
    assert shapes[0] == shapes[1]


def test_it_has_one_parameter_for_each_ordered_pair() -> None:
    model = literal_model(clique(layers=4))
    assert len(model.blocks[0].kernels) == 4 * 3 + 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (clique(dropout=0.2), "blocks.0.dropout is 0.2, only 0.0 is covered"),
        (clique(stages=3), "blocks.0.stages is 3, only 2 is covered"),
        (clique(unit="post_activation"), "blocks.0.unit is post_activation"),
        (clique(update="simultaneous"), "blocks.0.update is simultaneous"),
        (clique(order="descending"), r"blocks.0.order is \(3, 2, 1\)"),
        (clique(last_stage_updates=1), "blocks.0.last_stage_updates is 1, only 3"),
        (clique(feature=1), "blocks.0.feature is 1"),
        (clique(transit=1), "blocks.0.transit is 1"),
        (network({"kind": "dense", "layers": 2, "filters": 2}), "blocks.0 is a dense block"),
        (network({"layers": 2, "filters": 2}, transition={"pool": "max"}), "transition.pool"),
        (
            network({"layers": 2, "filters": 2}, transition={"compression": 0.5}),
            "transition.compression is 0.5",
        ),
        (network({"layers": 2, "filters": 2}, readout={"blocks": "last"}), "readout.blocks"),
        (shipped("cliquenet_k36_t12"), "transition.dropout is 0.2"),
    ],
)
def test_what_it_does_not_cover_is_refused(spec: NetworkSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        literal_model(spec)


def test_weights_of_another_network_are_refused() -> None:
    model = literal_model(clique(layers=3))
    tensors: dict[str, Any] = sample_tensors(graph_of(clique(layers=3)))
    with pytest.raises(ValueError, match=r"block1\.w1_4\.weight"):
        load_canonical(model, sample_tensors(graph_of(clique(layers=4))))
    with pytest.raises(ValueError, match=r"classifier\.bias is \(1,\), must be \(5,\)"):
        load_canonical(model, {**tensors, "classifier.bias": np.zeros(1)})
