"""The memory plan against what PyTorch's autograd really keeps."""

from __future__ import annotations

from weakref import WeakSet

import pytest
import torch
from torch import Tensor

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.analysis.memory import stored_bytes
from cliquegraph.emit.execute import load_source
from tests.networks import EVERY_KEY, clique, graph_of, network, shipped

BATCH = 4

# Wide enough that what is kept for each channel alone does not matter.
MEASURED = {
    "bottleneck, attention, compression": network(
        {"layers": 4, "filters": 8, "bottleneck": True},
        {"layers": 3, "filters": 8, "bottleneck": True},
        input={"channels": 3, "height": 64, "width": 48},
        stem={
            "filters": 16,
            "kernel": 7,
            "stride": 2,
            "norm": True,
            "pool": {"kind": "max", "kernel": 3, "stride": 2},
        },
        transition={"attention": True},
        readout={"compression": 0.5},
    ),
    "plain, dropout": network(
        {"layers": 4, "filters": 6, "dropout": 0.2},
        {"layers": 4, "filters": 6, "dropout": 0.2},
        input={"channels": 3, "height": 32, "width": 32},
        transition={"dropout": 0.2, "pool": "max"},
        readout={"compression": 0.5, "dropout": 0.2},
    ),
    "bottleneck, dropout, post-activation": network(
        {"layers": 4, "filters": 6, "dropout": 0.2, "bottleneck": True, "unit": "post_activation"},
        {
            "layers": 3,
            "filters": 6,
            "stages": 3,
            "norm_per_stage": False,
            "unit": "post_activation",
        },
        input={"channels": 3, "height": 32, "width": 32},
    ),
    "dense": network(
        {"kind": "dense", "layers": 4, "filters": 8, "bottleneck": 4, "dropout": 0.2},
        {"kind": "dense", "layers": 4, "filters": 8},
        input={"channels": 3, "height": 32, "width": 32},
        stem={"filters": 16, "pool": {"kind": "avg", "kernel": 2, "stride": 2}},
        transition={"compression": 0.5},
        readout={"blocks": "last"},
    ),
    "quickstart": shipped("quickstart", "input.height=32", "input.width=32", "expect={}"),
    "one block, not all of it read": network(
        {"layers": 4, "filters": 6},
        {"layers": 4, "filters": 6, "feature": 1},
        input={"channels": 3, "height": 32, "width": 32},
        readout={"blocks": "last"},
    ),
}


class Held:
    """What autograd is given to hold in place of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # an output's own graph would hold itself


def kept_by_autograd(spec: NetworkSpec) -> int:
    """Bytes that the graph of one training pass holds, without parameters and buffers."""
    module = load_source(cliquegraph.compile(spec, "torch"), "generated")
    model = getattr(module, spec.python_class)().train()
    owned = [*model.parameters(), *model.buffers()]
    own = {each.untyped_storage().data_ptr() for each in owned}
    alive: WeakSet[Held] = WeakSet()

    def pack(tensor: Tensor) -> Held:
        held = Held(tensor)
        alive.add(held)
        return held

    images = torch.randn(BATCH, spec.input.channels, spec.input.height, spec.input.width)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        logits = model(images)
    storages = [held.tensor.untyped_storage() for held in alive]
    kept = {each.data_ptr(): each.nbytes() for each in storages if each.data_ptr() not in own}
    del logits
    assert not alive
    return sum(kept.values())


@pytest.mark.parametrize("name", MEASURED)
def test_it_predicts_what_autograd_keeps(name: str) -> None:
    spec = MEASURED[name]
    predicted = sum(stored_bytes(graph_of(spec)).values()) * BATCH
    assert predicted == pytest.approx(kept_by_autograd(spec), rel=0.05)


def test_what_several_ops_keep_is_counted_once_by_the_first() -> None:
    # Block features are kept by their readout's norm; X0 by the first to normalise it.
    stored = stored_bytes(graph_of(clique(layers=1, stages=1, filters=3)))
    pixels = 8 * 8 * 4
    assert {str(section): size / pixels for section, size in stored.items()} == {
        "stem": 2,  # the image
        "block1": 4 + 4,  # the concatenation, the ReLU's output
        "readout1": 7 + 7,  # the feature, the ReLU's output
        "classifier": 7 / 64,  # the pooled vector
    }


def test_every_number_takes_its_bytes() -> None:
    graph = graph_of(clique())
    assert sum(stored_bytes(graph, 2).values()) == sum(stored_bytes(graph).values()) / 2
    # A max pool's indices and nothing else stay as large as they are.
    pooled = graph_of(EVERY_KEY["abc"])
    four, two = (sum(stored_bytes(pooled, each).values()) for each in (4, 2))
    assert 2 * two - four == 6 * 5 * 6 * 8


def test_s3_keeps_what_was_measured_per_image() -> None:
    # 187 MB for an image of S3, measured before this analysis was written.
    stored = sum(stored_bytes(graph_of(shipped("cliquenet_s3"))).values())
    assert stored / 1e6 == pytest.approx(187, rel=0.05)
