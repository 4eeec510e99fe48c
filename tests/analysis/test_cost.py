"""Parameters and MACs: the paper's figures, and those of the frameworks' own counters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import cliquegraph
from cliquegraph import NetworkSpec, network_cost, optimise
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.types import Part, Section
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from tests.networks import EVERY_KEY, clique, graph_of, graphs_of, networks, shipped

BLOCK = Section(Part.BLOCK, 1)

# name: parameters, MACs in G; figures that were computed independently of this code
FIGURES = {
    "cliquenet_k36_t12": (935_994, 0.455),
    "cliquenet_k64_t15": (4_485_706, 2.103),
    "cliquenet_k80_t15": (6_937_546, 3.226),
    "cliquenet_k80_t18": (10_135_594, 4.727),
    "cliquenet_k36_t12_a": (977_898, 0.455),
    "cliquenet_k36_t12_c": (1_037_434, 0.491),
    "cliquenet_k36_t12_ac": (1_079_338, 0.491),
    "cliquenet_k80_t15_ac": (7_998_138, 3.438),
    "cliquenet_k150_t30_abc": (10_022_035, 4.243),
    "cliquenet_s0_star": (5_703_728, 2.225),
    "cliquenet_s1_star": (7_956_776, 2.906),
    "cliquenet_s2_star": (10_003_756, 3.028),
    "cliquenet_s3_star": (13_170_904, 4.073),
    "cliquenet_s0": (6_245_330, 2.225),
    "cliquenet_s1": (8_740_046, 2.906),
    "cliquenet_s2": (11_008_376, 3.028),
    "cliquenet_s3": (14_383_024, 4.073),
    "densenet_k12_t36": (1_019_722, 0.530 / 2),
    "densenet_k12_t96": (6_979_642, 3.539 / 2),
    "densenet_k24_t96": (27_249_082, 13.779 / 2),
    "densenet_k12_t96_bc": (769_162, 0.576 / 2),
    "densenet_k24_t246_bc": (15_324_406, 10.838 / 2),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_papers_networks_have_the_papers_figures(name: str) -> None:
    parameters, macs = FIGURES[name]
    total = network_cost(graph_of(shipped(name))).total
    assert total.parameters == parameters
    # Printed to three decimals, of MACs or of FLOPs; attention adds under 0.001G.
    assert total.macs / 1e9 == pytest.approx(macs, abs=0.00151)
    assert total.flops == 2 * total.macs


def test_the_cost_of_a_clique_by_hand() -> None:
    # 2 layers of 3 filters over X0 of 4 channels, 8×8: W01 W02 W12, then W21 W12 again.
    cost = network_cost(graph_of(clique(layers=2)))
    kernel_0, kernel = 3 * 4 * 9, 3 * 3 * 9
    steps = {(step.stage, step.layer): step.cost for step in cost.steps}
    assert {place: each.macs for place, each in steps.items()} == {
        (1, 1): 64 * kernel_0,
        (1, 2): 64 * (kernel_0 + kernel),
        (2, 1): 64 * kernel,
        (2, 2): 64 * kernel,
    }
    assert {place: each.parameters for place, each in steps.items()} == {
        (1, 1): kernel_0 + 2 * 4,
        (1, 2): kernel_0 + kernel + 2 * 7,
        (2, 1): kernel + 2 * 3,
        (2, 2): kernel + 2 * 3,
    }
    block = cost.sections[BLOCK]
    assert block.macs == 64 * (2 * kernel_0 + 3 * kernel)
    # W12 is used in both stages and counted once; each stage has norms of its own.
    assert block.parameters == 2 * kernel_0 + 2 * kernel + 2 * (4 + 7 + 3 + 3)


def test_a_shared_kernel_counts_once_and_its_macs_for_every_use() -> None:
    two, three = (network_cost(graph_of(clique(stages=s, norm_per_stage=False))) for s in (2, 3))
    assert three.total.parameters == two.total.parameters
    stage_3 = sum(step.cost.macs for step in three.steps if step.stage == 3)
    assert three.total.macs == two.total.macs + stage_3
    assert stage_3 == 64 * 6 * 3 * 3 * 9


def test_running_statistics_are_no_parameters() -> None:
    graph = graph_of(clique())
    everything = sum(tensor.size for tensor in graph.tensors)
    statistics = sum(tensor.size for tensor in graph.tensors if not tensor.field.trainable)
    assert statistics
    assert network_cost(graph).total.parameters == everything - statistics


@given(networks())
def test_sections_add_up_to_the_network_and_steps_to_their_block(spec: NetworkSpec) -> None:
    for graph in graphs_of(spec).values():
        cost = network_cost(graph)
        for figure in ("parameters", "macs", "activations"):
            sections = sum(getattr(each, figure) for each in cost.sections.values())
            assert sections == getattr(cost.total, figure)
        for section in (each for each in cost.sections if each.part is Part.BLOCK):
            steps = [step.cost.macs for step in cost.steps if step.section == section]
            assert sum(steps) == cost.sections[section].macs


@given(networks())
def test_packing_changes_no_figure_of_a_section(spec: NetworkSpec) -> None:
    graph = graph_of(spec)
    before, after = network_cost(graph), network_cost(optimise(graph, 0))
    assert after.total == before.total
    assert after.sections == before.sections
    assert after.steps == before.steps


def test_activations_are_the_numbers_that_nodes_write() -> None:
    cost = network_cost(graph_of(clique(layers=1, stages=1)))
    # stem 4; norm, relu 4 each, convolution 3, feature 7; readout norm, relu 7, pool 7
    assert cost.sections[Section(Part.STEM)].activations == 2 * 64 + 4 * 64
    assert cost.sections[BLOCK].activations == (2 * 4 + 3 + 7) * 64
    assert cost.sections[Section(Part.READOUT, 1)].activations == 2 * 7 * 64 + 7


# ---- the frameworks' own counters ----------------------------------------------------------

MEASURED = (
    "quickstart",
    "cliquenet_k36_t12",
    "cliquenet_k80_t15_ac",
    "cliquenet_s3",
    "densenet_k12_t96_bc",
)


def torch_figures(spec: NetworkSpec, level: int = DEFAULT_LEVEL) -> tuple[int, int]:
    """FLOPs and parameters of the generated model, on the ``meta`` device."""
    module = load_source(cliquegraph.compile(spec, "torch", level=level), "generated")
    with torch.device("meta"):
        model = getattr(module, spec.python_class)().eval()
        image = torch.empty(1, spec.input.channels, spec.input.height, spec.input.width)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops(), sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("name", MEASURED)
def test_pytorch_counts_the_same(name: str) -> None:
    spec = shipped(name)
    total = network_cost(graph_of(spec)).total
    assert torch_figures(spec) == (2 * total.macs, total.parameters)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_pytorch_counts_the_same_for_every_key(name: str, level: int) -> None:
    assert_counted(EVERY_KEY[name], level)


@given(networks(), st.sampled_from(tuple(LEVELS)))
@settings(max_examples=25)
def test_pytorch_counts_the_same_for_random_networks(spec: NetworkSpec, level: int) -> None:
    assert_counted(spec, level)


def assert_counted(spec: NetworkSpec, level: int) -> None:
    # Above -O0, steps that nothing needs have parameters and execute nothing.
    parameters = network_cost(graph_of(spec)).total.parameters
    macs = network_cost(optimise(graph_of(spec), level)).total.macs
    assert torch_figures(spec, level) == (2 * macs, parameters)


@pytest.mark.parametrize("name", MEASURED)
def test_flax_has_as_many_parameters(name: str) -> None:
    spec = shipped(name)
    module = load_source(cliquegraph.compile(spec, "flax"), "generated")
    create = getattr(module, spec.python_class)
    model = nnx.eval_shape(lambda: create(rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    total = network_cost(graph_of(spec)).total
    assert sum(leaf.size for leaf in leaves) == total.parameters
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
