"""The specs that files by torchvision's names imply, and what is refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.weights import infer_spec, inferred_text, read_weights
from cliquegraph.weights.formats import TORCHVISION, formats
from cliquegraph.weights.identity import implied_network
from cliquegraph.weights.source import TensorInfo
from tests.networks import graph_of, shipped
from tests.semantics.test_published import compilation
from tests.weights.test_torchvision import DENSENET, RESNET, THEIRS, state

Shape = tuple[int, ...]


def shapes_of(network: NetworkSpec, published: bool = False) -> dict[str, Shape]:
    """What torchvision's file of a network holds."""
    found = formats(network, TORCHVISION)[published]
    return {**found.shapes, **dict.fromkeys(found.counters, ())}


def implied(shapes: Mapping[str, Shape], name: str = "implied") -> NetworkSpec:
    infos = {
        key: TensorInfo("int64" if key.endswith("tracked") else "float32", shape)
        for key, shape in shapes.items()
    }
    return implied_network(infos, "x.pth", name, TORCHVISION)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "densenet121"])
def test_a_shipped_network_is_implied_by_its_file(name: str, published: bool) -> None:
    network = shipped(name)
    found = implied(shapes_of(network, published), name)
    # But for how the stem of the DenseNet starts.
    same = found.model_copy(update={"stem": network.stem})
    assert graph_of(same).digest() == graph_of(network).digest()
    assert found.stem == network.stem.model_copy(update={"init": "fan_out"})


def test_strides_of_bottlenecks_are_not_told() -> None:
    v1 = implied(shapes_of(shipped("resnet50_v1")), "resnet50")
    assert graph_of(v1) == graph_of(shipped("resnet50"))


@pytest.mark.parametrize("classes", [1, 21])
def test_the_number_of_classes_is_told(classes: int) -> None:
    changes = [f"classifier.classes={classes}", "expect={}"]
    network = cliquegraph.load("specs/resnet18.yaml", changes)
    assert implied(shapes_of(network)).classifier.classes == classes


def test_a_stem_of_3_is_that_of_cifar_models_and_pads_have_no_kernel() -> None:
    name = "resnet_cifar_a_felixgwu"
    found = implied(shapes_of(compilation(name).network), name)
    blocks = [block.model_dump() for block in found.blocks]
    assert [(block["shortcut"], block["stride"]) for block in blocks] == [
        ("pad", 1),
        ("pad", 2),
        ("pad", 2),
    ]
    assert (found.input.height, found.stem.stride, found.stem.pool) == (32, 1, None)


def test_a_first_block_that_projects_though_its_channels_stay_has_a_stride() -> None:
    network = cliquegraph.load("specs/resnet18.yaml", ["blocks.0.stride=2", "expect={}"])
    assert implied(shapes_of(network)).blocks[0].model_dump()["stride"] == 2


@pytest.mark.parametrize("name", THEIRS)
def test_a_file_is_read_as_what_it_implies(name: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    save_file(state(name), file)
    found = cliquegraph.loads(inferred_text(file), "theirs")
    assert read_weights(found, file, TORCHVISION)
    assert found.expect.parameters == compilation(name).cost.total.parameters


def bottlenecks() -> dict[str, Shape]:
    block = {"kind": "residual", "layers": 1, "filters": 2, "unit": "bottleneck"}
    document = {
        "cliquegraph": 1,
        "name": "small",
        "input": {"channels": 3, "height": 8, "width": 8},
        "stem": {"filters": 2, "norm": True},
        "blocks": [block, {**block, "stride": 2}],
        "transition": "none",
        "readout": {"blocks": "last", "norm": False},
        "classifier": {"classes": 3},
    }
    return shapes_of(NetworkSpec.model_validate(document))


def test_the_text_says_what_shapes_do_not_tell(tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    tensors = {key: np.zeros(shape, np.float32) for key, shape in bottlenecks().items() if shape}
    save_file(tensors, file)
    lines = inferred_text(file).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Shapes do not determine images, strides and pools: these are those of CIFAR models.",
        "# Bottlenecks have their stride in the 3×3 convolution, as in torchvision and timm. In",
        "# files converted from Caffe the first 1×1 has it: add reduce_in: first to",
        "# block_defaults.",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv1.weight": None}, "not a ResNet in torchvision's format: it has no conv1.weight"),
        ({"fc.weight": None}, "it has no fc.weight"),
        ({"fc.bias": None}, "1 missing: fc.bias"),
        ({"conv1.weight": (2, 3, 4, 4)}, "conv1.weight is not a square kernel of odd size"),
        ({"conv1.weight": (2, 3)}, r"conv1.weight has shape \(2, 3\)"),
        ({"layer2.0.conv2.weight": (2, 1, 3, 3)}, "reads 1 channels and writes 2: grouped"),
        ({"layer2.0.conv3.weight": (4, 2, 1, 1)}, "writes 4 channels, not 4 times the 2 of conv2"),
        ({"layer1.0.downsample.0.weight": None}, "layer1 has no downsample, but others have one"),
        (
            {"layer1.2.conv1.weight": (2, 8, 1, 1)},
            "layer1.N. are not numbered consecutively from 0",
        ),
        ({"layer4.0.conv1.weight": (2, 8, 1, 1)}, "layerN. are not numbered consecutively from 1"),
        ({"layer1.0.se.fc1.weight": (2, 8, 1, 1)}, "1 unexpected: layer1.0.se.fc1.weight"),
        ({"layer1.0.conv1.weight": (2, 2, 3, 3)}, r"must be \(2, 2, 1, 1\)"),
    ],
)
def test_what_no_resnet_has_is_refused(change: dict[str, Shape | None], said: str) -> None:
    changed = {**bottlenecks(), **change}
    with pytest.raises(WeightsError, match=said):
        implied({key: shape for key, shape in changed.items() if shape is not None})


LAYER = "features.denseblock1.denselayer1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {f"{LAYER}.conv1.weight": (15, 8, 1, 1)},
            "15 channels is not a multiple of the growth rate 4",
        ),
        ({f"{LAYER}.conv2.weight": (8, 16, 3, 3)}, "blocks differ in growth rate or bottleneck"),
        ({f"{LAYER}.conv2.weight": None}, f"it has no {LAYER}.conv2.weight"),
        ({"features.transition2.conv.weight": (3, 26, 1, 1)}, "different factors"),
        ({"features.norm5.bias": None}, "1 missing: features.norm5.bias"),
    ],
)
def test_what_no_densenet_has_is_refused(change: dict[str, Shape | None], said: str) -> None:
    changed = {**shapes_of(compilation(DENSENET).network), **change}
    with pytest.raises(WeightsError, match=said):
        implied({key: shape for key, shape in changed.items() if shape is not None})


def test_a_densenet_without_compression_is_told() -> None:
    network = compilation(DENSENET).network
    assert network.transition is not None
    plain = network.model_copy(
        update={"transition": network.transition.model_copy(update={"compression": 1.0})}
    )
    assert implied(shapes_of(plain)).transition == plain.transition


def test_what_is_neither_is_refused_as_before(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"encoder.weight": np.zeros(3)}, file)
    with pytest.raises(WeightsError, match="authors' ImageNet format: it has no fir_trans"):
        infer_spec(file)
    save_file({key: array for key, array in state(RESNET).items() if key != "fc.bias"}, file)
    with pytest.raises(WeightsError, match=r"1 missing: fc\.bias"):
        infer_spec(file)
