"""Weights by torchvision's names: every tensor used once, published DenseNet files too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.storage import Array
from cliquegraph.weights import convert_weights, read_weights
from cliquegraph.weights.formats import TORCHVISION, formats
from cliquegraph.weights.sample import sample_tensors
from tests.networks import EVERY_KEY, clique, network, shipped
from tests.semantics.test_published import SPECS, arrays, compilation, group

THEIRS = [name for name in SPECS if name.startswith(("resnet", "densenet"))]
RESNET, DENSENET = "resnet_basic_torchvision", "densenet_bc_torchvision"


def state(name: str) -> dict[str, Array]:
    """What torchvision saved, without its counters."""
    return {
        key.removeprefix("state/"): array
        for key, array in arrays(name).items()
        if key.startswith("state/") and not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("name", THEIRS)
def test_a_file_is_read_whether_its_format_is_named_or_not(name: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    save_file(state(name), file)
    for format in (TORCHVISION, None):
        found = read_weights(compilation(name).network, file, format)
        expected = group(name, "state")
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_published_names_of_dense_layers_are_read(tmp_path: Path) -> None:
    published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): array
        for key, array in state(DENSENET).items()
    }
    assert "features.denseblock2.denselayer1.norm.1.weight" in published
    assert "features.transition1.norm.weight" in published
    file = tmp_path / "published.safetensors"
    save_file(published, file)
    found = read_weights(compilation(DENSENET).network, file, TORCHVISION)
    expected = group(DENSENET, "state")
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_the_way_to_a_backend_and_back_returns_the_same_bits(backend: str, tmp_path: Path) -> None:
    spec, theirs = compilation(RESNET).network, state(RESNET)
    first, ours, back = (tmp_path / f"{name}.safetensors" for name in ("first", "ours", "back"))
    save_file(theirs, first)
    convert_weights(spec, first, ours, to=backend, format=TORCHVISION)
    convert_weights(spec, ours, back, to=TORCHVISION)
    returned = load_file(back)
    counters = {key for key in returned if key.endswith("num_batches_tracked")}
    assert returned.keys() - counters == theirs.keys()
    assert all(np.array_equal(returned[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer1.0.conv1.weight": None}, "1 missing: layer1.0.conv1.weight"),
        ({"layer1.0.conv9.weight": np.zeros(3)}, "1 unexpected: layer1.0.conv9.weight"),
        ({"fc.bias": np.zeros(11)}, r"fc.bias \(classifier.bias\) is \(11,\), must be \(10,\)"),
    ],
)
def test_nothing_is_left_out_or_left_over(
    change: dict[str, Array | None], said: str, tmp_path: Path
) -> None:
    changed = {
        key: array for key, array in {**state(RESNET), **change}.items() if array is not None
    }
    file = tmp_path / "changed.safetensors"
    save_file(changed, file)
    with pytest.raises(WeightsError, match=said):
        read_weights(compilation(RESNET).network, file, TORCHVISION)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121"])
def test_shipped_networks_have_names_for_every_tensor(name: str) -> None:
    first, *_ = formats(shipped(name), TORCHVISION)
    assert len(first.params) == len(Compilation(shipped(name)).lowered.tensors)


def test_other_networks_are_none_of_torchvisions() -> None:
    several_readouts = network(
        {"kind": "dense", "layers": 2, "filters": 3, "bottleneck": 2},
        {"kind": "dense", "layers": 2, "filters": 3, "bottleneck": 2},
    )
    for spec in (clique(), EVERY_KEY["residual_mixed"], several_readouts):
        with pytest.raises(WeightsError, match="does not fit torchvision's format"):
            formats(spec, TORCHVISION)


def test_weights_of_the_small_networks_are_found_by_their_names() -> None:
    spec = EVERY_KEY["residual"]
    (first, _) = formats(spec, TORCHVISION)
    assert "layer2.0.downsample.0.weight" in first.params
    assert "layer3.1.conv3.weight" in first.params
    assert len(sample_tensors(first.graph)) == len(first.params)
