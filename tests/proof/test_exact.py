"""An op graph that does not compute what is declared is refused, at every -O level."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cliquegraph
from cliquegraph import Graph, NetworkSpec
from cliquegraph.blocks.model import Block
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.fuzz.draw import draw_spec, read_document
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.ops import (
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    DrawColumn,
    Dropout,
    JoinWeights,
    Keep,
    MaxPool,
    Moments,
    Normalize,
    Relu,
    Sigmoid,
    Zeros,
)
from cliquegraph.ir.types import Param, ParamSlice, Piece, Section
from cliquegraph.ir.verify import verify_graph
from cliquegraph.lowering.apply import OpLowering
from cliquegraph.lowering.update import lower_step
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, LEVELS
from cliquegraph.proof.exact import compare_exactly
from cliquegraph.semantics.exact import Candidate, Evidence, compare
from cliquegraph.semantics.reduce import least_size, reductions, resize
from cliquegraph.semantics.structure import same_structure
from cliquegraph.spec.boundaries import Readout
from cliquegraph.spec.schema import Input, SpecModel
from cliquegraph.steps.graph import Step
from tests.function import without_relu
from tests.networks import EVERY_KEY, SPECS, clique, graph_of, network, networks, shipped

TWO = network(
    {"layers": 3, "filters": 4, "order": [2, 3, 1], "stages": 3, "transit": 2},
    {"layers": 3, "filters": 4, "bottleneck": True},
)
POOLED = {"filters": 4, "pool": {"kind": "avg", "kernel": 2, "stride": 2}}
LAST_READ = TWO.model_copy(update={"readout": Readout(blocks="last")})


def refusal(spec: NetworkSpec, graph: Graph) -> str:
    with pytest.raises(VerificationError) as caught:
        compare(spec, Candidate(graph))
    return str(caught.value)


@cache
def two(level: int) -> Graph:
    return Compilation(TWO, level).graph


def exchanged(graph: Graph, old: Node, new: Node) -> Graph:
    nodes = tuple(new if node is old else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def update(graph: Graph, block: int, stage: int, layer: int) -> Iterator[Node]:
    for node in graph:
        origin = node.origin
        if (origin.section.index, origin.stage, origin.layer) == (block, stage, layer):
            yield node


def first(nodes: Iterator[Node], op: type) -> Node:
    return next(node for node in nodes if isinstance(node.op, op))


def value(graph: Graph, hint: str) -> Value:
    return next(node.output for node in graph if node.outputs[0].hint == hint)


# ---- what is right ---------------------------------------------------------------------------


def assert_shown(evidence: Evidence) -> None:
    assert evidence.values
    assert evidence.bound < 1e-9


@pytest.mark.parametrize("name", EVERY_KEY)
def test_every_key_is_computed_as_declared_after_every_pass(name: str) -> None:
    stages = list(compare_exactly(EVERY_KEY[name]))
    for stage in stages:
        assert_shown(stage.evidence)
    assert {stage.passes[-1:] for stage in stages} >= {(), ("pack",), ("recompute",), ("fold",)}
    normalized = any(isinstance(node.op, BatchNorm) for node in graph_of(EVERY_KEY[name]).nodes)
    assert all(
        bool(stage.evidence.statistics) is normalized
        for stage in stages
        if "fold" not in stage.passes
    )


# At the default level `make generated-check` compares every shipped spec, as it compiles it. The
# deepest DenseNets are the others with more layers, and take as long as all others together.
DEEPEST = ("densenet_k12_t96", "densenet_k24_t96", "densenet_k24_t246_bc")
SHALLOWER = [path for path in sorted(SPECS.glob("*.yaml")) if path.stem not in DEEPEST]


@pytest.mark.parametrize("level", [level for level in LEVELS if level != DEFAULT_LEVEL])
@pytest.mark.parametrize("path", SHALLOWER, ids=lambda path: path.stem)
def test_every_shipped_spec_is_computed_as_declared(path: Path, level: int) -> None:
    assert_shown(Compilation(cliquegraph.load(path), level).evidence)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*_s[0-3].yaml")), ids=lambda path: path.stem)
def test_shipped_specs_are_computed_as_declared_when_folded(path: Path) -> None:
    assert_shown(Compilation(cliquegraph.load(path), inference=True).evidence)


@given(networks(), st.sampled_from((*LEVELS, None)))
def test_random_networks_are_computed_as_declared(spec: NetworkSpec, level: int | None) -> None:
    assert Compilation(spec, level or 0, inference=level is None).evidence.values


# ---- what is wrong ---------------------------------------------------------------------------


def two_reads_swapped(graph: Graph) -> Graph:
    """The kernels stay where they are: each meets the other's feature."""
    concat = first(update(graph, 1, 2, 2), Concat)
    return exchanged(graph, concat, replace(concat, inputs=concat.inputs[::-1]))


def an_old_version(graph: Graph) -> Graph:
    concat = first(update(graph, 1, 3, 3), Concat)
    return reading(graph, concat, "x1_1", "x1_2")


def reading(graph: Graph, node: Node, other: str, own: str) -> Graph:
    """The graph where a node reads another value in place of one of its own."""
    swapped = {value(graph, own): value(graph, other)}
    inputs = tuple(swapped.get(each, each) for each in node.inputs)
    return exchanged(graph, node, replace(node, inputs=inputs))


def a_slice_that_begins_early(graph: Graph) -> Graph:
    conv = first(update(graph, 1, 2, 2), Conv)
    (operand,) = conv.operands
    early = ParamSlice(operand.param, operand.start - 4, operand.stop - 4)
    return exchanged(graph, conv, replace(conv, operands=(early,)))


def a_slice_that_is_one_off(graph: Graph) -> Graph:
    conv = first(update(graph, 1, 2, 2), Conv)
    (operand,) = conv.operands
    off = ParamSlice(operand.param, operand.start - 1, operand.stop - 1)
    return exchanged(graph, conv, replace(conv, operands=(off,)))


def another_layers_kernels(graph: Graph) -> Graph:
    conv, other = (first(update(graph, 1, 2, layer), Conv) for layer in (2, 3))
    return exchanged(graph, conv, replace(conv, operands=other.operands))


def the_other_layers_spatial_kernel(graph: Graph) -> Graph:
    own, other = (
        [node for node in update(graph, 2, 2, layer) if isinstance(node.op, Conv)][1]
        for layer in (1, 2)
    )
    return exchanged(graph, own, replace(own, operands=other.operands))


def another_stages_normalisation(graph: Graph) -> Graph:
    """Two stages have each other's."""
    one, other = (norm_of(graph, 1, stage, 2) for stage in (3, 2))
    swapped = exchanged(graph, one, replace(one, operands=other.operands))
    return exchanged(swapped, other, replace(other, operands=one.operands))


def norm_of(graph: Graph, block: int, stage: int, layer: int) -> Node:
    nodes = update(graph, block, stage, layer)
    return next(node for node in nodes if node.op.mnemonic in ("batch_norm", "normalize"))


def a_normalisation_that_is_turned_round(graph: Graph) -> Graph:
    """Out of a parameter that holds the same numbers in another order."""
    norm = norm_of(graph, 1, 3, 2)

    def turned(operand: ParamSlice) -> ParamSlice:
        (tensor,) = {piece.tensor for piece in operand.pieces}
        param = operand.param
        pieces = (Piece(tensor, 4, 8), Piece(tensor, 0, 4))
        if operand.pieces == pieces:
            pieces = (Piece(tensor, 0, 8),)
        return Param(param.slot, param.field, pieces, param.axis).whole()

    return exchanged(graph, norm, replace(norm, operands=tuple(map(turned, norm.operands))))


def the_feature_of_another_stage(graph: Graph) -> Graph:
    transit = next(
        node
        for node in graph
        if isinstance(node.op, Concat)
        and len(node.inputs) == 3
        and node.inputs[0].hint == "x1_2"
        and node.origin.layer is None
    )
    return reading(graph, transit, "x1_3", "x1_2")


def a_readout_of_something_else(graph: Graph) -> Graph:
    """What it reads is as wide: what a bottleneck leaves, six times."""
    norm = next(n for n in graph if str(n.origin.section) == "readout2" and n.op.fields)
    conv = first(update(graph, 2, 1, 2), Conv)
    wide = Node(Concat(), (conv.output,) * 6, (), (Value(norm.inputs[0].type),), norm.origin)
    nodes = [node for node in graph.nodes for node in ((wide, node) if node is norm else (node,))]
    return exchanged(
        replace(graph, nodes=tuple(nodes)),
        norm,
        replace(norm, inputs=(wide.output, *norm.inputs[1:])),
    )


def a_block_feature_the_other_way_round(graph: Graph) -> Graph:
    made = graph.producers[graph.features[0]]
    output = Value(made.output.type)
    turned = replace(made, inputs=made.inputs[::-1], outputs=(output,))
    at = graph.nodes.index(made) + 1
    nodes = (*graph.nodes[:at], turned, *graph.nodes[at:])
    return replace(graph, nodes=nodes, features=(output, graph.features[1]))


def an_update_that_nobody_asked_for(graph: Graph) -> Graph:
    last = list(update(graph, 2, 2, 3))
    late = {node: replace(node, origin=replace(node.origin, stage=3)) for node in last}
    return replace(graph, nodes=tuple(late.get(node, node) for node in graph))


def an_intermediate_value(graph: Graph) -> Graph:
    """The bottleneck's convolution reads what another layer's has written."""
    own, other = (
        [node for node in update(graph, 2, 2, layer) if isinstance(node.op, Relu)][1]
        for layer in (2, 1)
    )
    return exchanged(graph, own, replace(own, inputs=other.inputs))


def a_read_by_something_else(graph: Graph) -> Graph:
    relu = first(update(graph, 1, 2, 2), Relu)
    return exchanged(graph, relu, replace(relu, op=Sigmoid()))


def a_read_twice(graph: Graph) -> Graph:
    """A convolution over the same features, whose result nobody needs."""
    conv = first(update(graph, 1, 2, 2), Conv)
    again = replace(conv, outputs=(Value(conv.output.type),))
    at = graph.nodes.index(conv)
    return replace(graph, nodes=(*graph.nodes[:at], again, *graph.nodes[at:]))


def another_epsilon(graph: Graph) -> Graph:
    norm = norm_of(graph, 1, 2, 3)
    return exchanged(graph, norm, replace(norm, op=replace(norm.op, eps=1.00000000001e-5)))  # type: ignore[call-arg]


def another_momentum(graph: Graph) -> Graph:
    nodes = update(graph, 1, 2, 2)
    (mover, *_) = (node for node in nodes if isinstance(node.op, BatchNorm | Moments))
    return exchanged(graph, mover, replace(mover, op=replace(mover.op, momentum=0.1 + 1e-12)))  # type: ignore[call-arg]


def another_pool(graph: Graph) -> Graph:
    pool = next(node for node in graph if isinstance(node.op, AvgPool))
    return exchanged(graph, pool, replace(pool, op=MaxPool(2, 2)))


def a_stem_that_strides(graph: Graph) -> Graph:
    """Its pool is gone in exchange, so that types stay right."""
    (conv,) = (node for node in graph if str(node.origin.section) == "stem" and node.operands)
    pool = next(node for node in graph if isinstance(node.op, AvgPool))
    wide = replace(conv, op=replace(conv.op, stride=2), outputs=pool.outputs)  # type: ignore[call-arg]
    nodes = tuple(wide if node is conv else node for node in graph.nodes if node is not pool)
    return replace(graph, nodes=nodes)


def no_relu(graph: Graph) -> Graph:
    relu = first(update(graph, 1, 2, 1), Relu)
    return without_relu(graph, relu.inputs[0])


STEP = "block1, stage 2 layer 2: X2@2, of {X1@1, X3@1}, is not as declared, in evaluation"

WRONG = {
    two_reads_swapped: STEP,
    an_old_version: "block1, stage 3 layer 3: X3@3, of {X1@2, X2@3}, is not as declared",
    a_slice_that_begins_early: STEP,
    a_slice_that_is_one_off: STEP,
    another_layers_kernels: STEP,
    the_other_layers_spatial_kernel: "block2, stage 2 layer 1: X1@2, of {X2@1, X3@1}, is not",
    another_stages_normalisation: STEP,
    a_normalisation_that_is_turned_round: "block1, stage 3 layer 2: X2@3, of {X1@2, X3@2}, is not",
    the_feature_of_another_stage: "transition1: what it writes is not as declared, in evaluation",
    a_block_feature_the_other_way_round: "block1: the block feature is not as declared",
    a_readout_of_something_else: "readout2: what it writes is not as declared, in evaluation",
    an_update_that_nobody_asked_for: "block2, stage 3 layer 3: is in the graph, but not declared",
    an_intermediate_value: "block2, stage 2 layer 2: X2@2, of {X1@2, X3@1}, is not as declared",
    a_read_by_something_else: STEP,
    a_read_twice: "block1, stage 2 layer 2: nothing reads what its conv writes",
    another_epsilon: "block1, stage 2 layer 3: X3@2, of {X1@1, X2@2}, is not as declared",
    another_pool: "transition1: what it writes is not as declared, in evaluation",
    no_relu: "block1, stage 2 layer 1: X1@2, of {X2@2, X3@2}, is not as declared, in evaluation",
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_what_computes_something_else_is_refused(
    make: Callable[[Graph], Graph], level: int
) -> None:
    graph = make(two(level))
    verify_graph(graph)
    assert refusal(TWO, graph).startswith(WRONG[make])


@pytest.mark.parametrize("level", LEVELS)
def test_another_momentum_is_seen_in_the_running_statistics(level: int) -> None:
    # From -O1 on statistics are moved where a feature is written, for all that read it.
    said = refusal(TWO, another_momentum(two(level)))
    reader = "block1.x2.s2.norm" if level == 0 else "block1.x3.s2.norm"
    assert f"{reader}.mean does not move as declared" in said


def test_a_stride_in_another_place_is_refused() -> None:
    spec = network({"layers": 1, "filters": 2, "stages": 1}, stem=POOLED)
    graph = a_stem_that_strides(graph_of(spec))
    verify_graph(graph)
    assert refusal(spec, graph).startswith("stem: what it writes is not as declared")


def test_another_dropout_is_seen_in_training() -> None:
    spec = clique(dropout=0.25)
    graph = graph_of(spec)
    node = first(update(graph, 1, 2, 3), Dropout)
    for wrong in (Dropout(0.2500001), Dropout(0.5)):
        said = refusal(spec, exchanged(graph, node, replace(node, op=wrong)))
        assert said.endswith("X3@2, of {X1@2, X2@2}, is not as declared, in training")


def test_moments_of_other_features_are_found() -> None:
    norm = first(update(two(1), 1, 2, 2), Normalize)
    maps, *moments = norm.inputs
    swapped = replace(norm, inputs=(maps, *reversed(moments)))
    assert refusal(TWO, exchanged(two(1), norm, swapped)).startswith(STEP)


def test_statistics_that_stand_for_others_are_found() -> None:
    """Two readers' statistics of one feature are stored once, with a third one's of another."""
    graph = two(1)
    one, other = (
        next(n for n in update(graph, 1, 1, layer) if isinstance(n.op, Moments)) for layer in (2, 3)
    )

    def exchange(node: Node, from_: Node) -> Node:
        operands = []
        for operand, theirs in zip(node.operands, from_.operands, strict=True):
            mirrors = (*operand.param.mirrors[:-1], theirs.param.mirrors[-1])
            operands.append(replace(operand.param, mirrors=mirrors).whole())
        return replace(node, operands=tuple(operands))

    wrong = exchanged(exchanged(graph, one, exchange(one, other)), other, exchange(other, one))
    verify_graph(wrong)
    assert refusal(TWO, wrong).startswith("block1, stage 1 layer 1: X1@1, of {X0, X2@1, X3@1}")


def test_what_is_not_executed_is_compared_as_well() -> None:
    spec = clique(feature=1)
    graph = Compilation(spec, 1).graph
    assert graph.idle
    concat = next(node for node in graph.idle if isinstance(node.op, Concat))
    idle = tuple(
        replace(node, inputs=node.inputs[::-1]) if node is concat else node for node in graph.idle
    )
    assert refusal(spec, replace(graph, idle=idle)).startswith("block1, stage 2 layer 1: X1@2")


def test_an_update_that_is_lost_is_missed() -> None:
    spec = clique(feature=1)
    graph = Compilation(spec, 1).graph
    lost = {node.origin.layer for node in graph.idle}
    assert lost == {1, 2, 3}
    said = refusal(spec, replace(graph, idle=()))
    assert said == "block1, stage 2 layer 1 is not in the graph"


def test_graphs_of_other_networks_are_told_apart() -> None:
    """Blocks, layers and stages that only one of two has end in no traceback."""
    drawn = [read_document(draw_spec(9, index)) for index in range(7)]
    graphs = list(map(graph_of, drawn))
    for (spec, _), (_, graph) in permutations(zip(drawn, graphs, strict=True), 2):
        refusal(spec, graph)


@pytest.mark.parametrize(
    ("spec", "other", "message"),
    [
        (clique(3), clique(2), "block1, stage 1 layer 3: there is no block1.x3.s1.norm.scale"),
        (clique(2), clique(3), "block1, stage 2 layer 1: block1.x1.s2.norm.scale has the shape"),
        (TWO, clique(filters=4), "block1, stage 1 layer 2: block1.x2.s1.norm.scale has the shape"),
        (TWO, LAST_READ, "readout1: there is no readout1.norm.scale, which is declared"),
        (
            LAST_READ,
            TWO,
            "classifier: classifier.weight has the shape (5, 40), declared",
        ),
        (clique(), clique(filters=4), "block1, stage 1 layer 1: block1.w0_1.weight has the shape "),
        (clique(), clique(kernel=5), "block1, stage 1 layer 1: block1.w0_1.weight has the shape "),
    ],
)
def test_what_the_other_lacks_is_named(spec: NetworkSpec, other: NetworkSpec, message: str) -> None:
    assert refusal(spec, graph_of(other)).startswith(message)


# ---- one change anywhere -----------------------------------------------------------------------


def parts(graph: Graph, value: Value) -> tuple[Value, ...]:
    """What a value concatenates: two concatenations of the same are one value."""
    node = graph.producers[value]
    if not isinstance(node.op, Concat):
        return (value,)
    return tuple(part for each in node.inputs for part in parts(graph, each))


def changes(graph: Graph, random: Random) -> Iterator[Graph]:
    """The graph with another value of the same type in the place of one that a node reads."""
    for node in random.sample(graph.nodes[1:], len(graph.nodes) - 1):
        if isinstance(node.op, Keep | DrawColumn | Zeros):
            continue  # of its input only the type counts
        first = int(isinstance(node.op, JoinWeights))
        if first == len(node.inputs):
            continue  # of its first input only the type counts
        place = random.randrange(first, len(node.inputs))
        own = node.inputs[place]
        earlier = [v for n in graph.nodes[: graph.nodes.index(node)] for v in n.outputs]
        others = [v for v in earlier if v.type == own.type and parts(graph, v) != parts(graph, own)]
        if others:
            inputs = list(node.inputs)
            inputs[place] = random.choice(others)
            yield exchanged(graph, node, replace(node, inputs=tuple(inputs)))


def changed_operands(graph: Graph, random: Random) -> Iterator[Graph]:
    """The graph with two nodes of a kind that read each other's tensors."""
    nodes = [node for node in graph.nodes if node.operands]
    for node in random.sample(nodes, len(nodes)):
        shapes = [operand.shape for operand in node.operands]
        others = [
            other
            for other in nodes
            if type(other.op) is type(node.op)
            and other.operands != node.operands
            and [operand.shape for operand in other.operands] == shapes
        ]
        if others:
            other = random.choice(others)
            swapped = exchanged(graph, node, replace(node, operands=other.operands))
            yield exchanged(swapped, other, replace(other, operands=node.operands))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_one_change_anywhere_is_refused(name: str, level: int) -> None:
    spec = EVERY_KEY[name]
    graph = Compilation(spec, level).graph
    random = Random(f"{name} {level}")  # noqa: S311  # no secret
    for make in (changes, changed_operands):
        for wrong in islice(make(resize(graph, *least_size(graph)), random), 5):
            refusal(spec, wrong)


# ---- smaller networks --------------------------------------------------------------------------


def widened(section: Any, factor: int) -> Any:
    """A section with more filters, in every list of ops too."""
    if isinstance(section, tuple):
        return tuple(widened(each, factor) for each in section)
    if not isinstance(section, SpecModel):
        return section
    fields = {name: widened(getattr(section, name), factor) for name in type(section).model_fields}
    if isinstance(filters := fields.get("filters"), int):
        fields["filters"] = factor * filters
    return section.model_copy(update=fields)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_a_narrower_network_has_the_same_structure(name: str, level: int) -> None:
    spec = EVERY_KEY[name]
    wide = widened(spec, 8)
    one, other = (Compilation(each, level).graph for each in (spec, wide))
    assert same_structure(one, other)
    assert same_structure(resize(one, *least_size(one)), other)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "make", [two_reads_swapped, a_slice_that_is_one_off, another_epsilon, an_old_version]
)
def test_a_wrong_graph_has_another_structure(make: Callable[[Graph], Graph], level: int) -> None:
    assert not same_structure(make(two(level)), two(level))


def test_images_are_as_small_as_kernels_allow() -> None:
    assert least_size(graph_of(clique())) == (2, 2)
    assert least_size(graph_of(clique(kernel=5))) == (3, 3)
    assert least_size(graph_of(shipped("cliquenet_s3"))) == (61, 61)
    flat = clique(kernel=5).model_copy(update={"input": Input(channels=2, height=2, width=9)})
    assert least_size(graph_of(flat)) == (2, 3)


def test_widths_that_are_alike_stay_so() -> None:
    spec = network({"layers": 2, "filters": 64}, {"layers": 2, "filters": 12}, stem={"filters": 64})
    first, *_ = reductions(spec, graph_of(spec))
    assert [first.stem.filters, *(block.filters for block in first.blocks)] == [3, 3, 2]


# ---- where it is asked -----------------------------------------------------------------------


def test_the_verifier_of_the_op_graph_alone_does_not_see_it() -> None:
    for make in (two_reads_swapped, an_old_version):
        verify_graph(make(two(0)))


def test_a_lowering_that_is_wrong_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_reads(
        declared: Block,
        section: Section,
        step: Step,
        reads: list[Value],
        newest: dict[int, Value],
        lowering: OpLowering,
    ) -> Value:
        return lower_step(declared, section, step, reads[::-1], newest, lowering)

    monkeypatch.setattr(sys.modules["cliquegraph.lowering.lower"], "lower_step", reversed_reads)
    with pytest.raises(VerificationError, match=r"^block1, stage 1 layer 2: X2@1, of {X0, X1@1},"):
        cliquegraph.compile(clique(filters=4), "torch")


@dataclass(frozen=True)
class Swap:
    """A pass that is wrong."""

    name = "swap"

    def apply(self, graph: Graph) -> Graph:
        return two_reads_swapped(graph)


def test_a_pass_that_is_wrong_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEVELS, 0, (*LEVELS[0], Swap()))
    assert graph_of(TWO)
    with pytest.raises(VerificationError) as caught:
        cliquegraph.compile(TWO, "torch", level=0)
    assert str(caught.value) == STEP
    with pytest.raises(VerificationError) as caught:
        list(compare_exactly(TWO))
    assert str(caught.value) == f"after share common → pack → swap: {STEP}"


@dataclass(frozen=True)
class SwapTheWide:
    """A pass that is wrong at one width alone, which no smaller network shows."""

    name = "swap the wide"

    def apply(self, graph: Graph) -> Graph:
        wide = value(graph, "x1_1").type.channels == 4
        return two_reads_swapped(graph) if wide else graph


def test_a_pass_that_is_wrong_at_one_width_alone_ends_in_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LEVELS, 0, (*LEVELS[0], SwapTheWide()))
    with pytest.raises(VerificationError) as caught:
        cliquegraph.compile(TWO, "torch", level=0)
    assert str(caught.value) == STEP
