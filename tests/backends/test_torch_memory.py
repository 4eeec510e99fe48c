"""The memory plan against what PyTorch really keeps and uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from weakref import WeakSet, ref

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import cliquegraph
from cliquegraph import NetworkSpec, optimise
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.emit.execute import load_source
from cliquegraph.ir import ops
from cliquegraph.ir.types import Part, Section
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.memory import MemoryPlan
from cliquegraph.weights.source import numpy_dtype
from cliquegraph_torch.loss import mean_cross_entropy
from cliquegraph_torch.memory import memory_plan
from cliquegraph_torch.peak_slabs import rows_of_part
from cliquegraph_torch.precision import PRECISIONS, Precision, precision_of
from tests.backends.one_op import class_of, graph_of_ops
from tests.networks import EVERY_KEY, SPECS, clique, graph_of, network, networks, shipped

CASES = {
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
    "dropout": network(
        {"layers": 4, "filters": 6, "dropout": 0.2},
        {"layers": 4, "filters": 6, "dropout": 0.2, "bottleneck": True},
        input={"channels": 3, "height": 32, "width": 32},
        transition={"dropout": 0.2, "pool": "max"},
        readout={"compression": 0.5, "dropout": 0.2},
    ),
    "post-activation": network(
        {"layers": 4, "filters": 6, "unit": "post_activation"},
        {"layers": 3, "filters": 6, "stages": 3, "bottleneck": True, "unit": "post_activation"},
        input={"channels": 3, "height": 32, "width": 32},
    ),
    "one normalization for several stages": network(
        {"layers": 3, "filters": 6, "stages": 3, "norm_per_stage": False},
        {"layers": 3, "filters": 6, "stages": 3, "norm_per_stage": False, "bottleneck": True},
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
    "schedules": EVERY_KEY["schedule"],
    "residual": network(
        {"kind": "residual", "layers": 2, "filters": 8},
        {"kind": "residual", "layers": 2, "filters": 12, "stride": 2, "shortcut": "pad"},
        {"kind": "residual", "layers": 2, "filters": 8, "unit": "bottleneck", "stride": 2},
        input={"channels": 3, "height": 32, "width": 32},
        stem={"filters": 8, "norm": True, "init": "fan_out"},
        transition="none",
        readout={"blocks": "last", "norm": False},
    ),
    "dead steps": shipped(
        "cliquenet_k36_t15_i_ii", "input.height=16", "input.width=16", "expect={}"
    ),
    "one block, not all of it read": network(
        {"layers": 4, "filters": 6},
        {"layers": 4, "filters": 6, "feature": 1},
        input={"channels": 3, "height": 32, "width": 32},
        readout={"blocks": "last"},
    ),
    "quickstart": shipped("quickstart", "input.height=32", "input.width=32", "expect={}"),
    "k36_t12": shipped("cliquenet_k36_t12"),
    "S0": shipped("cliquenet_s0", "input.height=64", "input.width=64", "expect={}"),
}
CAST = ("bottleneck, attention, compression", "dropout", "post-activation", "k36_t12", "S0")


def plan_of(spec: NetworkSpec, level: int, batch: int = 1, dtype: str = "float32") -> MemoryPlan:
    return memory_plan(optimise(graph_of(spec), level), batch=batch, dtype=dtype)


# ---- what PyTorch does -------------------------------------------------------------------


def model_of(spec: NetworkSpec, level: int, dtype: str) -> nn.Module:
    module = load_source(cliquegraph.compile(spec, "torch", level=level), "generated")
    model = getattr(module, spec.python_class)().train()
    assert isinstance(model, nn.Module)
    return model.double() if dtype == "float64" else model


def images_for(spec: NetworkSpec, batch: int, dtype: str) -> Tensor:
    kind = torch.float64 if dtype == "float64" else torch.float32
    image = spec.input
    return torch.randn(batch, image.channels, image.height, image.width, dtype=kind)


def autocast(dtype: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else nullcontext()


class Held:
    """What autograd is given to hold in place of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # an output's own graph would hold itself


def stored_by_autograd(spec: NetworkSpec, level: int, batch: int, dtype: str) -> int:
    """Bytes that the graph of one training pass holds, without parameters and buffers."""
    return stored_in_a_pass(model_of(spec, level, dtype), images_for(spec, batch, dtype), dtype)


def stored_in_a_pass(model: nn.Module, images: Tensor, dtype: str) -> int:
    """The same for a model and its images."""
    owned = [*model.parameters(), *model.buffers()]
    own = {each.untyped_storage().data_ptr() for each in owned}
    alive: WeakSet[Held] = WeakSet()

    def pack(tensor: Tensor) -> Held:
        held = Held(tensor)
        alive.add(held)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor), autocast(dtype):
        logits = model(images)
    storages = [held.tensor.untyped_storage() for held in alive]
    kept = {each.data_ptr(): each.nbytes() for each in storages if each.data_ptr() not in own}
    del logits
    assert not alive
    return sum(kept.values())


class Tracker(TorchDispatchMode):
    """Counts the storages that operations return, each until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 0
        self.peak = 0
        self._alive: dict[int, ref[torch.UntypedStorage]] = {}

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def freed(_: object) -> None:
            del self._alive[key]
            self.used -= size

        self._alive[key] = ref(storage, freed)
        self.used += size
        self.peak = max(self.peak, self.used)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self.see(each)
        return result


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    # The first operation under a mode imports modules, and what fails in that holds the frames
    # of the caller.
    with Tracker():
        torch.zeros(1).add(1)
    yield


def used_by_a_step(spec: NetworkSpec, level: int, batch: int, dtype: str) -> int:
    """The most bytes in tensors at any time of a training step."""
    return used_in_a_step(model_of(spec, level, dtype), images_for(spec, batch, dtype), dtype)


def used_in_a_step(model: nn.Module, images: Tensor, dtype: str) -> int:
    """The same for a model and its images."""
    labels = torch.zeros(len(images), dtype=torch.long)
    tracker = Tracker()
    for owned in (images, *model.parameters(), *model.buffers()):
        tracker.see(owned)
    with tracker:
        with autocast(dtype):
            loss = mean_cross_entropy(model(images), labels)
        loss.backward()
    return tracker.peak


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_it_predicts_what_autograd_keeps(name: str, level: int, batch: int) -> None:
    spec = CASES[name]
    # All of it is accounted for. The task allows 5 %; statistics alone, which a prediction for
    # large batches could leave out, are more than 1 % of some of these.
    measured = stored_by_autograd(spec, level, batch, "float32")
    assert plan_of(spec, level, batch).stored == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CAST)
def test_it_predicts_what_autograd_keeps_in_other_dtypes(name: str, level: int, dtype: str) -> None:
    spec = CASES[name]
    measured = stored_by_autograd(spec, level, 2, dtype)
    assert plan_of(spec, level, 2, dtype).stored == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(("batch", "dtype"), [(2, "float32"), (5, "float32"), (3, "bfloat16")])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_it_predicts_the_peak_of_a_step(name: str, level: int, batch: int, dtype: str) -> None:
    spec = CASES[name]
    # Small tensors are ignored, such as those computed from moments in between; and under
    # autocast, when each use of a shared kernel has its gradient cast.
    measured = used_by_a_step(spec, level, batch, dtype)
    assert plan_of(spec, level, batch, dtype).peak == pytest.approx(measured, rel=0.03)


def test_a_relu_that_is_written_over_what_it_reads_takes_nothing() -> None:
    spec = CASES["one block, not all of it read"]  # at its peak, a ReLU runs
    measured = used_by_a_step(spec, 0, 5, "float32")
    assert plan_of(spec, 0, 5).peak == pytest.approx(measured, rel=0.001)


# ---- what must hold of any plan ----------------------------------------------------------


@given(networks())
def test_what_steps_and_sections_store_sums_up(spec: NetworkSpec) -> None:
    for level in LEVELS:
        plan = plan_of(spec, level, 3)
        assert sum(plan.sections.values()) == plan.stored
        for section, stored in plan.sections.items():
            if section.part is Part.BLOCK:
                assert sum(s.stored for s in plan.steps if s.section == section) == stored


@given(networks())
@settings(max_examples=20)
def test_each_image_adds_the_same_and_a_step_holds_what_is_stored(spec: NetworkSpec) -> None:
    for level in LEVELS:
        for dtype in PRECISIONS:
            one, two, three = (plan_of(spec, level, batch, dtype) for batch in (1, 2, 3))
            assert three.stored - two.stored == two.stored - one.stored > 0
            assert one.stored < one.peak < two.peak < three.peak


@given(networks())
def test_no_level_stores_more_than_the_one_below(spec: NetworkSpec) -> None:
    # Of maps: units also save statistics, whose size does not depend on the batch.
    pairs = [[plan_of(spec, level, batch).stored for batch in (1, 2)] for level in LEVELS]
    literal, shared, recomputed = (two - one for one, two in pairs)
    assert literal >= shared >= recomputed


@pytest.mark.parametrize("name", [path.stem for path in sorted(SPECS.glob("cliquenet_*.yaml"))])
def test_levels_of_shipped_specs_store_less_and_less(name: str) -> None:
    literal, shared, recomputed = (plan_of(shipped(name), level, 8) for level in LEVELS)
    assert recomputed.stored < shared.stored < literal.stored
    assert recomputed.peak < shared.peak < literal.peak


def test_what_several_calls_keep_counts_for_the_first() -> None:
    # Block features are kept by their readout's norm; X0 by the first to normalize it.
    plan = memory_plan(graph_of(clique(layers=1, stages=1, filters=3)))
    channel = 8 * 8 * 4
    norm = 2 * 4  # mean and 1 / standard deviation of a channel
    assert {str(section): size for section, size in plan.sections.items()} == {
        "stem": 2 * channel,  # the image
        "block1": (4 + 4) * channel + 4 * norm,  # the concatenation, the ReLU's output
        "readout1": (7 + 7) * channel + 7 * norm,  # the feature, the ReLU's output
        "classifier": 7 * 4,  # the pooled vector
    }


def test_a_step_that_recomputes_stores_its_map_and_the_moments_it_read() -> None:
    plan = plan_of(clique(layers=3, filters=3), 2, 5)
    last = next(each for each in plan.steps if (each.stage, each.layer) == (2, 3))
    assert last.section == Section(Part.BLOCK, 1)
    x3 = 5 * 3 * 8 * 8 * 4 + 2 * 3 * 4  # its columns of the slab, and of the slab's moments
    # Of X1 and X2 mean, variance and 1 / standard deviation, factor and shift.
    assert last.stored == x3 + 5 * 6 * 4


def test_sixteen_bits_halve_maps_and_nothing_else() -> None:
    def image(level: int, dtype: str) -> int:
        one, two = (plan_of(EVERY_KEY["abc"], level, batch, dtype).stored for batch in (1, 2))
        return two - one

    for level in LEVELS:
        assert image(level, "float64") - image(level, "float32") == 2 * (
            image(level, "float32") - image(level, "bfloat16")
        )
        # The positions that a max pool keeps stay as large as they are.
        assert 2 * image(level, "float16") - image(level, "float32") == 6 * 5 * 6 * 8


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_number_is_as_large_as_numpys_and_statistics_are_never_of_16_bits(dtype: str) -> None:
    size = numpy_dtype(dtype).itemsize
    others = max(4, size)
    assert precision_of(dtype) == Precision(size, others, others)


def test_a_dtype_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no dtype 'int8'; known: float32, bfloat16"):
        memory_plan(graph_of(clique()), dtype="int8")


def test_s3_and_s0_store_for_an_image_what_is_asked() -> None:
    # MB measured before this analysis was written: 187 of S3, 127 of S0 (FACTS, section 5); its
    # budget at -O2 is 85 for S3 and 0.45 of -O0 for S0.
    stored = {
        name: [plan_of(shipped(f"cliquenet_{name}"), level, 8).stored / 8e6 for level in LEVELS]
        for name in ("s0", "s3")
    }
    assert stored["s3"][0] == pytest.approx(187, rel=0.05)
    assert stored["s0"][0] == pytest.approx(1016 / 8, rel=0.05)
    assert stored["s3"][2] < 85
    assert stored["s0"][2] < 0.45 * stored["s0"][0]


# ---- ops that no shipped kind has ----------------------------------------------------------

CONV = ops.Conv(6, 3)
OPS: dict[str, tuple[ops.Op, ...]] = {
    "group norm": (ops.GroupNorm(3), ops.Relu()),
    "bias": (ops.Bias(), ops.Relu()),
    "gate": (ops.Gate(),),
    "local response": (ops.LocalResponse(4, 0.1, 0.75),),
    "depthwise": (ops.Conv(6, 3, depthwise=True), ops.Relu()),
    "depthwise with bias": (ops.Conv(6, 3, 2, bias=True, depthwise=True),),
    "convolution with bias": (ops.Conv(5, 3, bias=True), ops.Relu()),
    "upsampling": (ops.Upsample(2),),
    "padded max pool": (ops.MaxPool(3, 2, 1),),
    "zeros": (ops.Zeros(6, 3, 2, 1),),
}


@pytest.mark.parametrize("name", OPS)
def test_it_predicts_what_an_op_keeps_and_needs(name: str) -> None:
    # A map for autograd before the op, and one behind it that is saved.
    graph = graph_of_ops(CONV, *OPS[name], replace(CONV, filters=4), channels=3, size=(24, 20))
    plan, images = memory_plan(graph, batch=4), torch.randn(4, 3, 24, 20)
    model = class_of(graph, "torch")
    assert plan.stored == pytest.approx(stored_in_a_pass(model(), images, "float32"), rel=0.01)
    assert plan.peak == pytest.approx(used_in_a_step(model(), images, "float32"), rel=0.05)


def test_it_predicts_what_a_global_maximum_keeps_and_needs() -> None:
    graph = graph_of_ops(CONV, ops.GlobalMaxPool(), channels=3, size=(24, 20))
    plan, images = memory_plan(graph, batch=4), torch.randn(4, 3, 24, 20)
    model = class_of(graph, "torch")
    assert plan.stored == pytest.approx(stored_in_a_pass(model(), images, "float32"), rel=0.01)
    assert plan.peak == pytest.approx(used_in_a_step(model(), images, "float32"), rel=0.05)


def test_the_parts_of_a_plan_are_those_of_generated_files() -> None:
    file = load_source(cliquegraph.compile(shipped("densenet121"), "torch", level=1), "generated")
    for pixels, channels in [(16, 64), (2000, 32), (9000, 32), (50176, 256), (12544, 1024)]:
        first, *_ = file.parts(torch.empty(pixels, channels), torch.empty(pixels, 1))
        assert [len(each) for each in first] == [rows_of_part(pixels, channels)] * 2
