"""Generated PyTorch models: how they start, and that they work where models have to work."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.emit.execute import load_source
from cliquegraph.emit.view import Apply, Local, Own
from cliquegraph.ir import ops
from cliquegraph.ir.types import Init
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph_torch.live import find_tensor
from cliquegraph_torch.loss import mean_cross_entropy
from cliquegraph_torch.naming import TorchLayout
from cliquegraph_torch.spell import TorchSpeller
from tests.networks import EVERY_KEY, clique, network


def module_of(spec: NetworkSpec, level: int = DEFAULT_LEVEL) -> ModuleType:
    return load_source(cliquegraph.compile(spec, "torch", level=level), "generated")


def build(spec: NetworkSpec, level: int = DEFAULT_LEVEL, **keys: Any) -> Any:
    torch.manual_seed(0)
    return getattr(module_of(spec, level), spec.python_class)(**keys)


def images(spec: NetworkSpec, batch: int = 3) -> Tensor:
    size = spec.input
    shape = (batch, size.channels, size.height, size.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["defaults", "abc", "dense", "shared_norm"])
def spec(request: pytest.FixtureRequest) -> NetworkSpec:
    return EVERY_KEY[request.param]


# ---- initialization (section 4.1 of the paper) ---------------------------------------------

WIDE = network(
    {"layers": 3, "filters": 48, "bottleneck": True, "kernel": 3},
    {"layers": 2, "filters": 64},
    stem={"filters": 96, "norm": True},
    transition={"attention": True},
    readout={"compression": 0.5},
    classifier={"classes": 100},
)


def test_every_kernel_has_the_he_variance_of_its_own_fan_in() -> None:
    model = build(WIDE)
    state = dict(model.named_parameters())
    checked = 0
    for param in Compilation(WIDE).graph.params:
        if param.field == "weight" and len(param.shape) == 4:
            weight = state[TorchLayout().name(param)]
            assert tuple(weight.shape) == param.shape
            position = 0
            for piece in param.pieces:
                width = piece.stop - piece.start
                part = weight[:, position : position + width]
                position += width
                fan_in = width * part[0, 0].numel()
                expected = (2 / fan_in) ** 0.5
                # Three standard errors of a standard deviation, and a little.
                tolerance = 0.01 + 3 / (2 * part.numel()) ** 0.5
                assert part.std().item() == pytest.approx(expected, rel=tolerance)
                assert abs(part.mean().item()) < 4 * expected / part.numel() ** 0.5
                checked += 1
    # stem, 9 + 4 edges, 3 spatial, transition, 2 compressions
    assert checked == 1 + 9 + 4 + 3 + 1 + 2


def test_linear_layers_are_xavier_with_biases_of_0() -> None:
    model = build(WIDE)
    linears = [each for each in model.modules() if isinstance(each, nn.Linear)]
    assert len(linears) == 3
    for linear in linears:
        bound = (6 / (linear.in_features + linear.out_features)) ** 0.5
        assert 0.99 * bound < linear.weight.abs().max() <= bound
        assert not linear.bias.any()


@pytest.mark.parametrize("level", LEVELS)
def test_normalizations_start_at_1_and_0(level: int) -> None:
    model = build(WIDE, level)
    for param in Compilation(WIDE, level).graph.params:
        init = param.pieces[0].tensor.init
        if init in (Init.ZEROS, Init.ONES):
            assert (find_tensor(model, TorchLayout().name(param)) == (init is Init.ONES)).all()
    norms = [each for each in model.modules() if type(each).__name__ in ("BatchNorm2d", "Norm")]
    momenta = {each.momentum for each in model.modules() if hasattr(each, "momentum")}
    assert {each.eps for each in norms} == {1e-5}
    assert momenta == {0.1}


def test_no_convolution_has_a_bias() -> None:
    convolutions = [each for each in build(WIDE).modules() if isinstance(each, nn.Conv2d)]
    assert convolutions
    assert all(each.bias is None for each in convolutions)


# ---- the interface -------------------------------------------------------------------------


def test_num_classes_is_the_callers(spec: NetworkSpec) -> None:
    assert build(spec)(images(spec)).shape == (3, 5)
    assert build(spec, num_classes=7)(images(spec)).shape == (3, 7)


def test_forward_features_returns_the_block_features(spec: NetworkSpec) -> None:
    model = build(spec).eval()
    graph = Compilation(spec).graph
    features = model.forward_features(images(spec))
    assert isinstance(features, tuple)
    shapes = [(3, v.type.channels, v.type.height, v.type.width) for v in graph.features]  # type: ignore[union-attr]
    assert [tuple(each.shape) for each in features] == shapes


@pytest.mark.parametrize("level", LEVELS)
def test_forward_reads_what_forward_features_is_made_of(spec: NetworkSpec, level: int) -> None:
    model = build(spec, level).eval()
    x = images(spec)
    logits, features = model(x), model.forward_features(x)
    source = "gather" if hasattr(model, "gather") else "forward_features"
    found = getattr(model, source)(x)
    setattr(model, source, lambda x: found)
    nothing = torch.zeros_like(x)
    assert torch.equal(model(nothing), logits)
    for one, other in zip(model.forward_features(nothing), features, strict=True):
        assert torch.equal(one, other)


def test_the_module_has_one_public_name(spec: NetworkSpec) -> None:
    assert module_of(spec).__all__ == [spec.python_class]


def test_training_moves_running_statistics_and_evaluation_does_not(spec: NetworkSpec) -> None:
    model = build(spec)
    statistics = {name: each.clone() for name, each in model.named_buffers()}
    model.eval()(images(spec))
    assert all(torch.equal(each, statistics[name]) for name, each in model.named_buffers())
    model.train()(images(spec))
    assert all(not torch.equal(each, statistics[name]) for name, each in model.named_buffers())


def test_a_state_dict_makes_the_same_model(spec: NetworkSpec) -> None:
    one, other = build(spec), getattr(module_of(spec), spec.python_class)()
    assert not torch.equal(one.eval()(images(spec)), other.eval()(images(spec)))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(images(spec)), other(images(spec)))


def test_a_kernel_that_stages_share_is_one_parameter() -> None:
    two, three = (build(clique(stages=stages)) for stages in (2, 3))
    kernels = [name for name, _ in three.named_parameters() if name.startswith("block1.w")]
    assert kernels == [name for name, _ in two.named_parameters() if name.startswith("block1.w")]
    assert kernels == ["block1.w1", "block1.w2", "block1.w3"]


def test_stages_from_3_on_re_use_stage_2s_norms_where_the_spec_says_so() -> None:
    own = build(clique(stages=3))
    shared = build(clique(stages=3, norm_per_stage=False), level=0)
    assert {"update1_3", "update2_3", "update3_3"} <= dict(own.block1.named_children()).keys()
    assert set(dict(shared.block1.named_children())) == {
        f"update{j}_{s}" for j in (1, 2, 3) for s in (1, 2)
    }
    # Stages 2 and 3 each move them: two batches were tracked in one pass.
    shared(images(clique()))
    assert shared.block1.update1_1.norm.num_batches_tracked == 1
    assert shared.block1.update1_2.norm.num_batches_tracked == 2


def test_dropout_has_the_rates_of_the_spec_and_draws_in_training_alone() -> None:
    spec = network(
        {"layers": 2, "filters": 3, "dropout": 0.1, "bottleneck": True},
        {"layers": 2, "filters": 3, "dropout": 0.5},
        transition={"dropout": 0.2},
        readout={"compression": 0.5, "dropout": 0.3},
    )
    model = build(spec)
    rates = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    by_section = {name.split(".")[0]: rate for name, rate in rates.items()}
    assert by_section == {
        "block1": 0.1,
        "transition1": 0.2,
        "block2": 0.5,
        "readout1": 0.3,
        "readout2": 0.3,
    }
    x = images(spec)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("op", "members", "code"),
    [
        (ops.BatchNorm(), ["norm"], "torch.relu_(self.norm(x))"),
        (ops.Conv(3, 1, bias=True), ["conv"], "torch.relu_(self.conv(x))"),
        (ops.Linear(3), ["fc"], "torch.relu_(self.fc(x))"),
        # In evaluation dropout returns what it was given, which others may read.
        (ops.Dropout(0.5), ["dropout"], "torch.relu(self.dropout(x))"),
        # The gradient of the sigmoid is computed from its output.
        (ops.Sigmoid(), [], "torch.relu(torch.sigmoid(x))"),
    ],
    ids=lambda each: getattr(each, "mnemonic", ""),
)
def test_relu_overwrites_what_nobody_needs(op: ops.Op, members: list[str], code: str) -> None:
    inner = Apply(op, (Local("x"),), tuple(map(Own, members)))
    assert str(TorchSpeller().expression(Apply(ops.Relu(), (inner,), ()))) == code


# ---- PyTorch's modes -----------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # of the tracer's own dependencies
def test_it_compiles_as_one_graph(spec: NetworkSpec) -> None:
    model = build(spec)
    x = images(spec)
    for training in (False, True):
        model.train(training)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        state = {name: each.clone() for name, each in model.state_dict().items()}
        found = compiled(x)
        model.load_state_dict(state)
        assert torch.allclose(found, model(x), rtol=1e-5, atol=1e-6)


def test_autocast_computes_in_bfloat16(spec: NetworkSpec) -> None:
    model = build(spec)
    x = images(spec)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
        features = model.forward_features(x)
    assert logits.dtype == torch.bfloat16
    assert {each.dtype for each in features} == {torch.bfloat16}
    mean_cross_entropy(logits.float(), torch.tensor([0, 1, 2])).backward()
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert all(each.grad is None or each.grad.isfinite().all() for each in model.parameters())


def test_channels_last_computes_the_same(spec: NetworkSpec) -> None:
    model = build(spec).double()
    x = images(spec).double()
    expected = model(x)
    model = build(spec).double().to(memory_format=torch.channels_last)
    found = model(x.to(memory_format=torch.channels_last))
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_maps_stay_channels_last() -> None:
    spec = EVERY_KEY["abc"]
    model = build(spec).to(memory_format=torch.channels_last)
    for feature in model.forward_features(images(spec).to(memory_format=torch.channels_last)):
        assert feature.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("level", LEVELS)
def test_it_trains_on_a_gpu_in_bfloat16_and_channels_last(spec: NetworkSpec, level: int) -> None:
    model = build(spec, level).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    x = images(spec, 16).cuda().to(memory_format=torch.channels_last)
    labels = torch.arange(16, device="cuda") % 5
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
