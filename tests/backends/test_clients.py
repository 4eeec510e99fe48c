"""At the default level, generated PyTorch models work with what looks for, and traces, modules."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import cliquegraph
from cliquegraph import Compilation, Graph, NetworkSpec, interpret, sample_tensors
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.proof.verify import relative_error
from tests.function import images_for
from tests.levels import TOLERANCE
from tests.networks import EVERY_KEY, clique, shipped

NETWORKS = {
    "quickstart": shipped("quickstart", "blocks.*.layers=2", "blocks.*.filters=4", "expect={}"),
    "post_activation": clique(layers=2, unit="post_activation"),
    "residual": EVERY_KEY["residual"],
}


class Client(NamedTuple):
    """A generated model in float64, with its op graph and its canonical weights."""

    model: Any
    spec: NetworkSpec
    graph: Graph
    tensors: dict[str, Array]

    @property
    def images(self) -> Tensor:
        return torch.from_numpy(images_for(self.graph))

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        return [each for each in self.model.modules() if isinstance(each, nn.BatchNorm2d)]

    def statistics(self) -> dict[str, Array]:
        """The running statistics by canonical name."""
        weights = cliquegraph.model_weights(self.model, self.spec)
        return {name: weights[name] for name in self.tensors if name.endswith((".mean", ".var"))}


@pytest.fixture(params=NETWORKS)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Client:
    spec = NETWORKS[request.param]
    module = load_source(cliquegraph.compile(spec, "torch"), f"generated_{request.param}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where torch.export looks for it
    model = getattr(module, spec.python_class)().double()
    graph = Compilation(spec).graph
    tensors = sample_tensors(Compilation(spec, max(LEVELS)).graph)  # which every level can store
    cliquegraph.load_weights(model, spec, tensors)
    return Client(model, spec, graph, tensors)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


# ---- by the class of its normalizations ----------------------------------------------------


def test_frozen_norms_move_no_statistic(client: Client) -> None:
    model, x = client.model, client.images
    expected = model.eval()(x)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    for norm in client.norms:
        norm.eval()
    logits = model(x)
    logits.sum().backward()
    assert_equal(logits, expected)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert before
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_update_bn_estimates_every_statistic_anew(client: Client) -> None:
    batches = [client.images, 2 * client.images + 1]
    update_bn(batches, client.model)
    seen = [statistics_of(client, x) for x in batches]
    expected = {name: np.mean([each[name] for each in seen], 0) for name in seen[0]}
    assert expected.keys() == client.statistics().keys()
    assert relative_error(client.statistics(), expected) < TOLERANCE


def statistics_of(client: Client, x: Tensor) -> dict[str, Array]:
    """The interpreter's batch statistics: it weighs them with 0.1 into the running ones."""
    moved = interpret(client.graph, client.tensors, x.numpy(), training=True).running
    return {name: (array - 0.9 * client.tensors[name]) / 0.1 for name, array in moved.items()}


@pytest.mark.parametrize("training", [False, True])
def test_every_norm_becomes_a_synchronized_one(client: Client, training: bool) -> None:
    """Outside a process group they compute what the original ones do."""
    model = client.model.train(training)
    expected, statistics, count = model(client.images), client.statistics(), len(client.norms)
    cliquegraph.load_weights(model, client.spec, client.tensors)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert not client._replace(model=converted).norms
    assert sum(isinstance(each, nn.SyncBatchNorm) for each in converted.modules()) == count
    assert count == sum(param.field is Field.MEAN for param in client.graph.params)
    assert_equal(converted(client.images), expected)
    found = client._replace(model=converted).statistics()
    assert relative_error(found, statistics) < TOLERANCE


# ---- by tracing ----------------------------------------------------------------------------


def traced(model: nn.Module, x: Tensor) -> Any:
    """Trace a model and load it from a file of TorchScript."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, x), file)
    file.seek(0)
    return torch.jit.load(file)


def symbolically_traced(model: nn.Module, x: Tensor) -> Any:
    return torch.fx.symbolic_trace(model)


def exported(model: nn.Module, x: Tensor) -> Any:
    """Export a model for every batch size."""
    torch._dynamo.reset()
    sizes = ({0: torch.export.Dim("batch")},)
    return torch.export.export(model, (x,), dynamic_shapes=sizes, strict=True).module()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
# PyTorch's own batch normalization compares sizes; the generated code must not.
@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning:torch.nn")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("trace", [traced, symbolically_traced, exported])
def test_what_is_traced_returns_the_models_logits(
    client: Client, trace: Callable[[nn.Module, Tensor], Any], training: bool
) -> None:
    """For another batch size than the one traced."""
    model = client.model.train(training)
    function = trace(model, client.images)
    x = torch.cat([client.images, 2 * client.images + 1])
    assert_equal(function(x), model(x))
