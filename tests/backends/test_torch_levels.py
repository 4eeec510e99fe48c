"""Generated PyTorch models at every -O level: what autograd is told, against -O0."""

from __future__ import annotations

import ctypes
import importlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import cliquegraph
from cliquegraph import NetworkSpec, sample_tensors
from cliquegraph.compiler import Compilation
from cliquegraph.ir import ops
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field, Param, Part
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.verify import relative_error
from cliquegraph_torch.live import find_tensor
from cliquegraph_torch.naming import TorchLayout
from tests.levels import TOLERANCE, Model, Outcome, assert_same
from tests.networks import EVERY_KEY, clique, network, networks, shipped

ABOVE_0 = [level for level in LEVELS if level]

# ---- in every way that a model is used, as at -O0 ------------------------------------------


def freeze(model: Model, which: Callable[[Param], bool]) -> None:
    for param in model.graph.params:
        if param.field.trainable and which(param):
            find_tensor(model.module, TorchLayout().name(param)).requires_grad_(False)


def as_it_is(model: Model, x: Tensor) -> Tensor:
    return x


def in_channels_last(model: Model, x: Tensor) -> Tensor:
    model.module.to(memory_format=torch.channels_last)
    return x.to(memory_format=torch.channels_last)


def in_evaluation(model: Model, x: Tensor) -> Tensor:
    model.module.eval()
    return x


def with_gradients_of_images(model: Model, x: Tensor) -> Tensor:
    return x.requires_grad_()


def with_frozen_kernels(model: Model, x: Tensor) -> Tensor:
    freeze(model, lambda param: len(param.shape) == 4)
    return x


def with_frozen_scales(model: Model, x: Tensor) -> Tensor:
    freeze(model, lambda param: param.field is Field.SCALE)
    return x


def with_a_frozen_stem(model: Model, x: Tensor) -> Tensor:
    freeze(model, lambda param: param.slot.section.part is Part.STEM)
    return x


def with_a_frozen_first_block(model: Model, x: Tensor) -> Tensor:
    with_a_frozen_stem(model, x)
    freeze(model, lambda param: str(param.slot.section) == "block1")
    return x


WAYS = (
    as_it_is,
    in_channels_last,
    in_evaluation,
    with_gradients_of_images,
    with_frozen_kernels,
    with_frozen_scales,
    with_a_frozen_stem,
    with_a_frozen_first_block,
)


def outcomes(spec: NetworkSpec, way: Callable[[Model, Tensor], Tensor]) -> list[Outcome]:
    models = [Model(spec, level) for level in LEVELS]
    return [model.outcome(way(model, model.images())) for model in models]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["abc", "schedule", "post_activation", "shared_norm"])
def test_it_learns_as_the_literal_one_does(name: str, way: Any) -> None:
    expected, *others = outcomes(EVERY_KEY[name], way)
    for found in others:
        assert_same(found, expected)


@given(networks(), st.sampled_from(WAYS))
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_random_networks_do(spec: NetworkSpec, way: Any) -> None:
    expected, *others = outcomes(spec, way)
    for found in others:
        assert_same(found, expected)


@pytest.mark.parametrize(
    "names", [("stem", "block1"), ("readout1", "block2"), ("block1.update1_2",)]
)
@pytest.mark.parametrize("level", LEVELS)
def test_sections_are_in_different_modes_at_o0_alone(level: int, names: tuple[str, ...]) -> None:
    # Where a feature's moments are shared, its writer and its readers can't be in different modes.
    spec = network({"layers": 3, "filters": 3}, {"layers": 2, "filters": 3, "bottleneck": True})
    model = Model(spec, level)
    for name in names:
        model.module.get_submodule(name).eval()
    if level == 0:
        model.outcome(model.images())
        return
    with pytest.raises(ValueError, match=r"eval\(\) of some normalizations: .*; compile at -O0"):
        model.outcome(model.images())


# ---- canonical weights ---------------------------------------------------------------------


@given(networks())
@settings(max_examples=10, suppress_health_check=list(HealthCheck))
def test_weights_move_through_all_levels_bit_for_bit(spec: NetworkSpec) -> None:
    backend = find_backend("torch")
    tensors = sample_tensors(Compilation(spec, max(LEVELS)).graph)
    for level in (0, 1, 2, 0):
        each = Compilation(spec, level)
        executor = backend.executor(each.source(backend), "Small", each.graph, "float64")
        executor.load(tensors)
        found = executor.tensors()
        assert found.keys() == tensors.keys()
        assert all(np.array_equal(found[name], array) for name, array in tensors.items())
        tensors = found


# ---- what it costs -------------------------------------------------------------------------

CONVOLVE = torch.ops.aten.convolution.default
DIFFERENTIATE = torch.ops.aten.convolution_backward.default


class Count(TorchDispatchMode):
    """Counts the operators that are executed, and backwards the gradients of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[object]()
        self.inputs = self.kernels = 0  # gradients of them

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func] += 1
        if func is DIFFERENTIATE:
            of_input, of_kernel, _ = args[-1]
            self.inputs, self.kernels = self.inputs + of_input, self.kernels + of_kernel
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", EVERY_KEY)
def test_no_level_costs_a_convolution(name: str) -> None:
    found = []
    means = 0
    for level in LEVELS:
        model = Model(EVERY_KEY[name], level)
        with Count() as forward:
            loss = model.forward(model.images())
        with Count() as backward:
            loss.backward()
        # What attention reads is a convolution of one pixel.
        means = sum(isinstance(node.op, ops.GlobalMean) for node in model.graph)
        found.append(backward.calls[DIFFERENTIATE])
        executed = sum(isinstance(node.op, ops.Conv) for node in model.graph)
        assert forward.calls[CONVOLVE] == executed
    literal, *others = found
    assert others == [literal + means] * 2


@pytest.mark.parametrize(
    "way", [as_it_is, with_frozen_kernels, with_a_frozen_stem, with_a_frozen_first_block]
)
@pytest.mark.parametrize("name", ["abc", "post_activation"])
def test_no_gradient_is_computed_that_nobody_needs(name: str, way: Any) -> None:
    inputs, kernels = [], []
    for level in LEVELS:
        model = Model(EVERY_KEY[name], level)
        x = way(model, model.images())
        loss = model.forward(x)
        with Count() as count:
            loss.backward()
        inputs.append(count.inputs)
        kernels.append(count.kernels)
        means = sum(isinstance(node.op, ops.GlobalMean) for node in model.graph)
    # What attention reads is a convolution of one pixel.
    assert inputs[1] == inputs[2] == inputs[0] + means
    assert kernels[1] == kernels[2] == kernels[0] + means * any(kernels)


@pytest.mark.parametrize("name", ["defaults", "abc", "post_activation", "dense"])
def test_pytorch_counts_the_same_flops_forwards_and_backwards(name: str) -> None:
    found = set()
    for level in LEVELS:
        model = Model(EVERY_KEY[name], level)
        with FlopCounterMode(display=False) as counter:
            model.forward(model.images()).backward()
        # Pools before convolutions save their MACs forwards, and backwards twice.
        macs = len(model.images()) * sum(node.macs for node in model.graph)
        found.add(counter.get_total_flops() - 6 * macs)
    assert len(found) == 1


# ---- what autograd keeps -------------------------------------------------------------------


@contextmanager
def deterministic() -> Iterator[None]:
    """Fill new memory with NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("level", ABOVE_0)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_nothing_is_written_while_autograd_needs_it(name: str, level: int) -> None:
    model = Model(EVERY_KEY[name], level)
    # PyTorch's own normalization keeps its running statistics and then moves them; that of a
    # branch with drop-path hands it zeros to move.
    running = {buffer.data_ptr() for buffer in model.module.buffers()}
    kept: list[tuple[Tensor, int, Tensor]] = []

    def pack(tensor: Tensor) -> Tensor:
        is_blank = tensor.dim() == 1 and not tensor.any()
        if tensor.data_ptr() not in running and not is_blank:
            kept.append((tensor, tensor._version, tensor.clone()))
        return tensor

    # What is not written yet, as columns of a slab that others will fill, is not a number.
    with deterministic(), saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.forward(model.images())
    assert kept
    for _ in range(2):  # the second time, what the first may have written is read
        loss.backward(retain_graph=True)
        for tensor, version, content in kept:
            assert tensor._version == version
            assert torch.equal(
                torch.where(content.isnan(), content, tensor).nan_to_num(), content.nan_to_num()
            )


@pytest.mark.parametrize("level", ABOVE_0)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_a_graph_that_is_retained_gives_the_same_gradients_again(name: str, level: int) -> None:
    model = Model(EVERY_KEY[name], level)
    loss = model.forward(model.images())
    parameters = [each for each in model.module.parameters() if each.requires_grad]

    def gradients() -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)

    for one, other in zip(gradients(), gradients(), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("level", ABOVE_0)
@pytest.mark.parametrize("name", ["defaults", "post_activation"])
def test_second_derivatives_are_refused(name: str, level: int) -> None:
    model = Model(EVERY_KEY[name], level)
    weight = next(model.module.block1.parameters())
    with pytest.raises(RuntimeError, match="second derivatives: compile at -O0"):
        torch.autograd.grad(model.forward(model.images()), weight, create_graph=True)


# ---- a part of the model that is called in another way than the others ---------------------


def without_gradients(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward pass under ``torch.no_grad()``."""
    return torch.no_grad()(forward)


@pytest.mark.parametrize("level", ABOVE_0)
def test_a_part_without_gradients_is_refused_where_gradients_would_be_lost(level: int) -> None:
    model = Model(clique(layers=2), level)
    model.module.block1.forward = without_gradients(model.module.block1.forward)
    with pytest.raises(RuntimeError, match=r"a part under torch\.no_grad\(\)"):
        model.forward(model.images())


@pytest.mark.parametrize("level", ABOVE_0)
@pytest.mark.parametrize("part", ["", "block1"])
def test_checkpoints_recompute_blocks_and_the_model(part: str, level: int) -> None:
    expected, model = (Model(clique(layers=2), level) for _ in range(2))
    module = model.module.get_submodule(part)
    forward = module.forward
    module.forward = lambda *args: checkpoint(forward, *args, use_reentrant=False)
    found = model.outcome(model.images())
    for what, arrays in expected.outcome(expected.images()).items():
        # Running statistics move again, of readers outside of the part too (docs/clients.md).
        if what != "statistics":
            assert relative_error(found[what], arrays) < TOLERANCE, what


@pytest.mark.parametrize("level", LEVELS)
def test_no_images_have_no_logits(level: int) -> None:
    model = Model(clique(layers=2), level)
    model.module.eval()
    logits = model.module(model.images()[:0])
    logits.sum().backward()
    assert len(logits) == 0
    assert not any(array.any() for array in model.gradients().values())


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("level", ABOVE_0)
def test_a_training_step_is_traced(level: int) -> None:
    model = Model(clique(layers=2), level)
    torch.jit.trace(model.module, model.images(), check_trace=False)(model.images())
    assert not any(each.requires_grad for each in model.module.buffers())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("level", ABOVE_0)
def test_evaluation_is_traced_without_warnings(level: int) -> None:
    model = Model(clique(layers=2), level)
    model.module.eval()
    traced = torch.jit.trace(model.module, model.images(), check_trace=False)
    x = torch.cat([model.images(), model.images() + 1])
    torch.testing.assert_close(traced(x), model.module(x))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("part", ["block1", "transition1", "block2"])
def test_a_part_may_be_compiled(part: str, level: int) -> None:
    torch._dynamo.reset()
    expected, model = (Model(COMPILED["units"], level) for _ in range(2))
    model.module.get_submodule(part).compile(backend="aot_eager")
    assert_same(model.outcome(model.images()), expected.outcome(expected.images()))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("order", [[1, 2, 3], [2, 3, 1]])
def test_an_update_may_be_compiled(order: list[int], level: int) -> None:
    """What stays by itself leaves its columns empty, and no other feature is written there."""
    torch._dynamo.reset()
    spec = clique(layers=3, filters=3, stages=2, order=order)
    expected, model = (Model(spec, level) for _ in range(2))
    model.module.block1.update2_2.compile(backend="aot_eager")
    assert_same(model.outcome(model.images()), expected.outcome(expected.images()))


@pytest.mark.parametrize("level", LEVELS)
def test_a_checkpoint_is_differentiated_twice(level: int) -> None:
    expected, model = (Model(clique(layers=2), level) for _ in range(2))
    forward = model.module.block1.forward
    model.module.block1.forward = lambda *args: checkpoint(forward, *args, use_reentrant=False)
    for each in (expected, model):
        loss = each.forward(each.images())
        loss.backward(retain_graph=True)
        loss.backward()
    assert relative_error(model.gradients(), expected.gradients()) < TOLERANCE


class Scaled(nn.Conv2d):
    """A convolution of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("level", ABOVE_0)
def test_a_convolution_whose_kernel_is_read_is_no_other(level: int) -> None:
    model = Model(shipped("quickstart"), level)
    conv = model.module.readout1.compress_conv
    conv.bias = nn.Parameter(torch.ones(len(conv.weight), dtype=torch.float64))
    with pytest.raises(ValueError, match="or a bias: compile at -O0"):
        model.module(model.images())
    conv.bias, conv.__class__ = None, Scaled
    with pytest.raises(ValueError, match=r"another convolution in place of nn\.Conv2d"):
        model.module(model.images())


@pytest.mark.parametrize("level", LEVELS)
def test_functions_are_transformed(level: int) -> None:
    model = Model(clique(), level)
    model.module.eval()  # in training, torch.func refuses PyTorch's own batch normalization
    x = model.images()

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        logits: Tensor = torch.func.functional_call(model.module, parameters, (x,))
        return logits.sum()

    parameters = dict(model.module.named_parameters())
    gradients = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_a_cumulative_average_is_refused_where_it_would_be_none() -> None:
    model = Model(EVERY_KEY["shared_norm"], 2)
    norms = [each for each in model.module.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # as torch.optim.swa_utils.update_bn sets it
    assert norms
    with pytest.raises(ValueError, match=r"momentum=None.*; compile at -O0"):
        model.module(model.images())
    model.module.eval()(model.images())


@pytest.mark.parametrize("level", ABOVE_0)
@pytest.mark.parametrize("name", ["shared_norm", "abc", "post_activation"])
def test_norms_count_their_batches_as_the_literal_ones_do(name: str, level: int) -> None:
    counts = []
    for each in (0, level):
        model = Model(EVERY_KEY[name], each)
        for _ in range(2):
            model.module(model.images())
        model.module.eval()(model.images())
        norms = dict(model.module.named_modules())
        counts.append(
            {
                name: int(norm.num_batches_tracked)
                for name, norm in norms.items()
                if type(norm) is nn.BatchNorm2d
            }
        )
    literal, found = counts
    assert found
    assert min(found.values()) > 0
    assert found.items() <= literal.items()


def test_at_o0_update_bn_averages_over_the_batches_it_is_given() -> None:
    model = Model(EVERY_KEY["shared_norm"], 0)
    batches = [model.images(), model.images() + 1]
    torch.optim.swa_utils.update_bn(batches, model.module)
    first = model.module.block1.update3_1.norm
    with torch.no_grad():
        means = [model.module.stem(x).mean((0, 2, 3)) for x in batches]
    assert torch.allclose(first.running_mean, (means[0] + means[1]) / 2)


# ---- PyTorch's modes -----------------------------------------------------------------------

COMPILED = {
    "units": network(
        {"layers": 2, "filters": 3, "bottleneck": True},
        {"layers": 2, "filters": 2, "unit": "post_activation"},
        stem={"filters": 4, "norm": True, "pool": {"kind": "max", "kernel": 3, "stride": 2}},
        transition={"attention": True},
        readout={"compression": 0.5},
    ),
    "shared_norm": clique(layers=2, stages=3, norm_per_stage=False),
}


@pytest.mark.filterwarnings("default")  # of the tracer's own dependencies
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_as_one_graph_it_learns_the_same(name: str, level: int) -> None:
    torch._dynamo.reset()
    eager, model = Model(COMPILED[name], level), Model(COMPILED[name], level)
    model.module.compile(fullgraph=True, backend="aot_eager")
    assert_same(model.outcome(model.images()), eager.outcome(eager.images()))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("level", LEVELS)
def test_with_compiled_steps_it_learns_the_same(level: int) -> None:
    torch._dynamo.reset()
    spec = COMPILED["units"]
    eager, model = Model(spec, level), Model(spec, level)
    model.module.compile_steps(fullgraph=True, backend="aot_eager")
    assert_same(model.outcome(model.images()), eager.outcome(eager.images()))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("unit", ["pre_activation", "post_activation"])
def test_compiled_steps_are_one_graph_for_each_block(unit: str) -> None:
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    # Post-activation steps have the same parameters whatever they read.
    block = {"layers": 4, "filters": 3, "unit": unit}
    model = Model(network(block, block), 1)
    model.module.compile_steps(backend=backend)
    compiled = {name for name, each in model.module.named_modules() if each._compiled_call_impl}
    assert compiled == {f"block{i}.update{j}_2" for i in (1, 2) for j in (1, 2, 3, 4)}
    model.forward(model.images())
    assert len(graphs) == 2


@pytest.mark.parametrize("name", ["dense", "one_stage", "mixed"])
def test_where_no_steps_are_alike_none_are_offered_to_be_compiled(name: str) -> None:
    assert not hasattr(Model(EVERY_KEY[name], 1).module, "compile_steps")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["defaults", "abc", "post_activation", "shared_norm"])
def test_autocast_in_bfloat16_is_near_float32(name: str, level: int) -> None:
    model = Model(EVERY_KEY[name], level)
    model.module.float()
    x = model.images().float()
    expected = deepcopy(model.module)(x)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.module(x)
    assert logits.dtype == torch.bfloat16
    assert (
        relative_error({"": logits.detach().float().numpy()}, {"": expected.detach().numpy()}) < 0.2
    )
    logits.float().logsumexp(1).sum().backward()
    gradients = [each.grad for each in model.module.parameters() if each.grad is not None]
    assert gradients
    assert all(each.isfinite().all() and each.dtype == torch.float32 for each in gradients)
    assert {each.dtype for each in model.module.buffers() if each.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize("level", ABOVE_0)
@pytest.mark.parametrize("name", ["defaults", "abc", "post_activation", "shared_norm"])
def test_autocast_may_be_off_for_a_section(name: str, level: int) -> None:
    def gradients(level: int, seed: int, *, cast: bool) -> dict[str, Array]:
        model = Model(EVERY_KEY[name], level)
        images = torch.randn(model.images().shape, generator=torch.Generator().manual_seed(seed))
        model.module.float()
        stem = model.module.stem.forward

        def exact(x: Tensor) -> Any:
            with torch.autocast("cpu", enabled=False):
                return stem(x)

        model.module.stem.forward = exact  # X0 in 32 bits beside updates in 16
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            loss = model.forward(images)
        loss.backward()
        return model.gradients()

    def error(level: int, seed: int) -> float:
        exact, found = gradients(0, seed, cast=False), gradients(level, seed, cast=True)
        return sum(float(((found[key] - array) ** 2).sum()) for key, array in exact.items())

    # Of bfloat16's own roundings, which are large: no more than the literal network has. For a
    # single seed either error may be several times the other.
    ratios = [error(level, seed) / error(0, seed) for seed in range(5)]
    assert geometric_mean(ratios) < 1.5


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["defaults", "schedule"])
def test_copies_and_state_dicts_make_the_same_model(
    name: str, level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EVERY_KEY[name]
    module_name = f"generated_{name}_{level}"
    source = cliquegraph.compile(spec, "torch", level=level)
    (tmp_path / f"{module_name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    create = importlib.import_module(module_name).Small
    model, other = create(), create()
    x = Model(spec, level).images().float()
    copies = [deepcopy(model), pickle.loads(pickle.dumps(model)), other]  # noqa: S301  # our own
    other.load_state_dict(model.state_dict())
    expected = model(x)
    for each in copies:
        assert torch.equal(each(x), expected)
        for name, held in model.state_dict().items():
            assert torch.equal(each.state_dict()[name], held)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    # The destructor of a group joins its threads while it holds the GIL, for which they may be
    # waiting: a reference that is never given back keeps it from running.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("level", LEVELS)
def test_it_trains_under_distributed_data_parallel(level: int) -> None:
    alone, model = (Model(EVERY_KEY["defaults"], level) for _ in range(2))
    # Without find_unused_parameters it fails where a parameter has no gradient.
    model.module = nn.parallel.DistributedDataParallel(model.module)
    for each in (alone, model):
        for _ in range(2):
            each.forward(each.images()).backward()
    for one, other in zip(alone.module.parameters(), model.module.parameters(), strict=True):
        assert one.grad is not None
        assert torch.allclose(one.grad, other.grad)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("level", LEVELS)
def test_steps_that_nothing_needs_are_unused_parameters_to_it(level: int) -> None:
    model = Model(clique(feature=1), level)
    parallel = nn.parallel.DistributedDataParallel(model.module, find_unused_parameters=True)
    for _ in range(2):
        parallel(model.images()).sum().backward()
    unused = {name for name, each in model.module.named_parameters() if each.grad is None}
    assert unused == {
        f"block1.update{j}_2.norm.{field}" for j in (1, 2, 3) for field in ("weight", "bias")
    }


@pytest.mark.parametrize("level", ABOVE_0)
def test_what_a_compiler_sees_saves_maps_in_their_own_type(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(clique(bottleneck=True), level, dtype=torch.float32)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    x = model.images().float()
    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model.module(x)
    maps = [each for each in saved if each.dim() == 4 and len(each) == len(x) and each is not x]
    rectified = [each for each in maps if each.min() == 0 and each.dtype == torch.bfloat16]
    assert rectified
    assert not [each for each in maps if each.min() == 0 and each.dtype == torch.float32]
