"""The interpreter against a clique network written by hand, literally, and op by op."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cliquegraph import NetworkSpec, interpret, sample_tensors
from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.ir import ops
from cliquegraph.ir.storage import Array, to_storage
from cliquegraph.ir.types import Field
from cliquegraph.semantics.interpret import _Frame, evaluate
from tests.networks import EVERY_KEY, clique, graph_of, network


class Literal:
    """A network of cliques as section 3 of the paper reads, over canonical tensors.

    It shares nothing with the compiler: a dictionary of features for each stage, kernels
    concatenated for every update, PyTorch's own functions.
    """

    def __init__(self, spec: NetworkSpec, tensors: dict[str, Array], training: bool) -> None:
        self.spec = spec
        self.tensors = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
        self.training = training

    def norm_relu(self, x: Tensor, name: str) -> Tensor:
        read = [self.tensors[f"{name}.{field}"] for field in ("mean", "var", "scale", "bias")]
        # Running statistics are moved in place.
        return F.relu(F.batch_norm(x, *read, training=self.training, momentum=0.1, eps=1e-5))

    def kernel(self, name: str) -> Tensor:
        return self.tensors[f"{name}.weight"]

    def update(
        self, b: int, block: CliqueBlock, stage: int, j: int, xs: dict[int, Tensor]
    ) -> Tensor:
        """One update of X_j from ``xs``, which may hold more than it reads."""
        sources = [i for i in sorted(xs) if i != j]
        x = torch.cat([xs[i] for i in sources], dim=1)
        w = torch.cat([self.kernel(f"block{b}.w{i}_{j}") for i in sources], dim=1)
        s = stage if block.norm_per_stage else min(stage, 2)
        if block.unit == "pre_activation":
            x = self.norm_relu(x, f"block{b}.x{j}.s{s}.norm")
        x = F.conv2d(x, w, padding=w.shape[-1] // 2)
        if block.bottleneck:
            x = self.norm_relu(x, f"block{b}.x{j}.s{s}.mid_norm")
            v = self.kernel(f"block{b}.v{j}")
            x = F.conv2d(x, v, padding=v.shape[-1] // 2)
        if block.unit == "post_activation":
            x = self.norm_relu(x, f"block{b}.x{j}.s{s}.norm")
        return x

    def block(self, b: int, block: CliqueBlock, x0: Tensor) -> tuple[Tensor, Tensor]:
        n = block.layers
        order = {"ascending": range(1, n + 1), "descending": range(n, 0, -1)}.get(
            block.order if isinstance(block.order, str) else "", block.order
        )
        stages: list[dict[int, Tensor]] = []
        for stage in range(1, block.stages + 1):
            last = block.last_stage_updates if stage == block.stages else None
            visited = [int(j) for j in order][:last]
            if stage == 1:
                xs = {0: x0}
                for j in visited:
                    xs[j] = self.update(b, block, stage, j, xs)
                del xs[0]
            else:
                xs = dict(stages[-1])
                before = dict(xs)
                for j in visited:
                    bottom = before if block.update == "simultaneous" else xs
                    xs[j] = self.update(b, block, stage, j, bottom)
            stages.append(xs)
        feature = stages[(block.feature or block.stages) - 1]
        transit = stages[(block.transit or block.stages) - 1]
        layers = range(1, n + 1)
        return (
            torch.cat([x0, *(feature[j] for j in layers)], dim=1),
            torch.cat([transit[j] for j in layers], dim=1),
        )

    def transition(self, b: int, x: Tensor) -> Tensor:
        name = f"transition{b}"
        x = F.conv2d(self.norm_relu(x, f"{name}.norm"), self.kernel(f"{name}.conv"))
        if self.spec.transition.attention:
            z = F.adaptive_avg_pool2d(x, 1).flatten(1)
            z = F.relu(self.linear(z, f"{name}.attention.fc1"))
            z = torch.sigmoid(self.linear(z, f"{name}.attention.fc2"))
            x = x * z.view(*z.shape, 1, 1)
        pool = F.max_pool2d if self.spec.transition.pool == "max" else F.avg_pool2d
        return pool(x, 2)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def __call__(self, images: Array) -> tuple[Tensor, list[Tensor]]:
        stem = self.spec.stem
        w = self.kernel("stem.conv")
        x = F.conv2d(torch.from_numpy(images), w, stride=stem.stride, padding=w.shape[-1] // 2)
        if stem.norm:
            x = self.norm_relu(x, "stem.norm")
        if stem.pool is not None and stem.pool.kind == "max":
            padding = (stem.pool.kernel - 1) // 2
            x = F.max_pool2d(x, stem.pool.kernel, stem.pool.stride, padding)
        features = []
        for b, block in enumerate(self.spec.blocks, start=1):
            assert isinstance(block, CliqueBlock)
            feature, transit = self.block(b, block, x)
            features.append(feature)
            if b < len(self.spec.blocks):
                x = self.transition(b, transit)
        vectors = []
        for b, z in enumerate(features, start=1):
            if self.spec.readout.compression:
                z = self.norm_relu(z, f"readout{b}.compress.norm")
                z = F.conv2d(z, self.kernel(f"readout{b}.compress.conv"))
            vectors.append(
                F.adaptive_avg_pool2d(self.norm_relu(z, f"readout{b}.norm"), 1).flatten(1)
            )
        return self.linear(torch.cat(vectors, dim=1), "classifier"), features


def draw(spec: NetworkSpec, batch: int = 3) -> tuple[dict[str, Array], Array]:
    image = spec.input
    rng = np.random.default_rng(3)
    images = rng.normal(size=(batch, image.channels, image.height, image.width))
    return sample_tensors(graph_of(spec), seed=4), images


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    "name", ["defaults", "abc", "schedule", "shared_norm", "one_stage", "post_activation"]
)
def test_a_clique_network_written_by_hand_computes_the_same(name: str, training: bool) -> None:
    spec = EVERY_KEY[name]
    tensors, images = draw(spec)
    literal = Literal(spec, tensors, training)
    logits, features = literal(images)
    result = interpret(graph_of(spec), tensors, images, training=training)
    assert result.logits == pytest.approx(logits.numpy(), rel=1e-10, abs=1e-12)
    for found, expected in zip(result.features, features, strict=True):
        assert found == pytest.approx(expected.numpy(), rel=1e-10, abs=1e-12)
    for key, found in result.running.items():
        assert found == pytest.approx(literal.tensors[key].numpy(), rel=1e-10, abs=1e-12)
        if not training:
            assert np.array_equal(found, tensors[key])


def test_a_dense_network_is_what_torch_makes_of_it() -> None:
    spec = network({"kind": "dense", "layers": 2, "filters": 3, "bottleneck": 2})
    tensors, images = draw(spec)
    at = {name: torch.from_numpy(array) for name, array in tensors.items()}

    def norm_relu(x: Tensor, name: str) -> Tensor:
        read = [at[f"{name}.{field}"] for field in ("mean", "var", "scale", "bias")]
        return F.relu(F.batch_norm(x, *read))

    held = F.conv2d(torch.from_numpy(images), at["stem.conv.weight"], padding=1)
    for j in (1, 2):
        x = norm_relu(held, f"block1.x{j}.norm")
        x = F.conv2d(x, at[f"block1.x{j}.conv.weight"])
        x = norm_relu(x, f"block1.x{j}.mid_norm")
        x = F.conv2d(x, at[f"block1.x{j}.mid_conv.weight"], padding=1)
        held = torch.cat([held, x], dim=1)
    z = norm_relu(held, "readout1.norm").mean((2, 3))
    logits = F.linear(z, at["classifier.weight"], at["classifier.bias"])
    result = interpret(graph_of(spec), tensors, images)
    assert result.features[0] == pytest.approx(held.numpy(), rel=1e-10, abs=1e-12)
    assert result.logits == pytest.approx(logits.numpy(), rel=1e-10)


# ---- ops alone -----------------------------------------------------------------------------


def alone(op: ops.Op, *arguments: Array) -> Array:
    """An op without tensors."""
    frame = _Frame({}, training=False, mask=None)
    return evaluate(op, None, list(arguments), frame)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (1, 1), (5, 3)])
def test_pools_are_torchs(kernel: int, stride: int) -> None:
    # All negative: a padding of zeros would win.
    x = -1 - np.random.default_rng(0).random((2, 3, 7, 9))
    padding = (kernel - 1) // 2
    found = alone(ops.MaxPool(kernel, stride, padding), x)
    expected = F.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()
    assert np.array_equal(found, expected)
    average = F.avg_pool2d(torch.from_numpy(x), kernel, stride).numpy()
    assert alone(ops.AvgPool(kernel, stride), x) == pytest.approx(average)


def test_a_sigmoid_of_large_numbers_does_not_overflow() -> None:
    found = alone(ops.Sigmoid(), np.array([[-1e4, -1.0, 0.0, 1.0, 1e4]]))
    assert found[0] == pytest.approx([0, 0.2689414213699951, 0.5, 0.7310585786300049, 1])


# ---- dropout -------------------------------------------------------------------------------


def test_dropout_does_nothing_unless_a_mask_is_given_in_training() -> None:
    spec = EVERY_KEY["dropout"]
    graph = graph_of(spec)
    tensors, images = draw(spec)

    def run(**keys: Any) -> Array:
        return interpret(graph, tensors, images, **keys).logits

    def half(node: object, x: Array) -> Array:
        return x * 0.5

    assert np.array_equal(run(mask=half), run())
    assert not np.allclose(run(training=True, mask=half), run(training=True))


def test_a_mask_is_given_every_dropout_and_its_input() -> None:
    spec = EVERY_KEY["dropout"]
    graph = graph_of(spec)
    tensors, images = draw(spec)
    seen = []

    def keep(node: Any, x: Array) -> Array:
        seen.append((node, x))
        return x

    result = interpret(graph, tensors, images, training=True, mask=keep)
    assert [node for node, _ in seen] == [n for n in graph if isinstance(n.op, ops.Dropout)]
    for node, x in seen:
        assert x is result.values[node.inputs[0]]


# ---- what is given -------------------------------------------------------------------------


def test_what_is_given_is_not_changed() -> None:
    spec = clique()
    tensors, images = draw(spec)
    before = {name: array.copy() for name, array in tensors.items()}
    interpret(graph_of(spec), tensors, images, training=True)
    for name, array in before.items():
        assert np.array_equal(tensors[name], array)


def test_float32_is_computed_in_float64() -> None:
    spec = clique()
    tensors, images = draw(spec)
    result = interpret(
        graph_of(spec),
        {name: array.astype(np.float32) for name, array in tensors.items()},
        images.astype(np.float32),
        training=True,
    )
    assert result.logits.dtype == np.float64
    assert {array.dtype for array in result.running.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 3, 8, 8), (3, 2, 8, 7), (3, 2, 8, 8, 1)])
def test_images_must_have_the_networks_shape(shape: tuple[int, ...]) -> None:
    tensors, _ = draw(clique())
    with pytest.raises(UsageError, match="must be batch x 2x8x8"):
        interpret(graph_of(clique()), tensors, np.zeros(shape))


def test_weights_must_be_those_of_the_network() -> None:
    tensors, images = draw(clique())
    bias = tensors.pop("classifier.bias")
    tensors["classifier.offset"] = bias
    tensors["stem.conv.weight"] = tensors["stem.conv.weight"][:, :1]
    with pytest.raises(WeightsError) as caught:
        interpret(graph_of(clique()), tensors, images)
    assert str(caught.value) == (
        "weights do not fit small:\n"
        "  1 missing: classifier.bias\n"
        "  1 unexpected: classifier.offset\n"
        "  1 of another shape: stem.conv.weight is (4, 1, 3, 3), must be (4, 2, 3, 3)"
    )


def test_one_number_per_channel_has_no_variance() -> None:
    spec = clique(layers=2)
    one_pixel = spec.model_copy(
        update={"input": spec.input.model_copy(update={"height": 1, "width": 1})}
    )
    tensors, images = draw(one_pixel, batch=1)
    interpret(graph_of(one_pixel), tensors, images)
    with pytest.raises(UsageError, match="block1, stage 1 layer 1: one value per channel"):
        interpret(graph_of(one_pixel), tensors, images, training=True)


def test_a_part_of_a_running_statistic_moves_alone() -> None:
    graph = graph_of(clique())
    node = next(node for node in graph.nodes if isinstance(node.op, ops.BatchNorm))
    mean = next(operand for operand in node.operands if operand.param.field is Field.MEAN)
    assert mean.param.extent > 2
    frame = _Frame(to_storage(graph, sample_tensors(graph)), training=True, mask=None)
    before = frame.storage[mean.param].copy()
    part = replace(node, operands=(replace(mean, start=1, stop=2),))
    frame.observe(part, Field.MEAN, np.array([5.0]), 0.25, None)
    expected = before.copy()
    expected[1] = 0.75 * before[1] + 0.25 * 5.0
    assert np.allclose(frame.storage[mean.param], expected)
